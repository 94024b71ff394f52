"""Acknowledged bets per second on one lane through updates, while the lane settles them: ledger, proofs and all are at work.

The lane may have so many batches in flight that the flood never fills it: what a full lane takes is what its prover settles.
"""

import asyncio
from typing import Final

from pydantic import BaseModel, ConfigDict
from rich.console import Console

from bench.figures import steady_window
from bench.flood import Flood
from bench.settling import Audit, audit, settled
from bench.site import Lanes, Where, bench_stack
from bench.traffic import Crowd, Mix
from operations.provisioning import Progress
from settlement.limits import MAX_BATCHES_IN_FLIGHT
from settlement.shapes import SHAPES

RAMP_SHARE: Final = 0.1
"""Of the bets, left out at either end."""

ROOMY_LANE: Final = Lanes(
    lanes=1,
    max_batch_bets=max(shape.bets for shape in SHAPES),
    max_batch_players=max(shape.players for shape in SHAPES),
    max_batches_in_flight=MAX_BATCHES_IN_FLIGHT,
    window_seconds=5.0,
)
CLIENTS: Final = 4
"""At once, each with players of its own: a client never has two updates in flight with bets of one player."""

PLAYERS_PER_CLIENT: Final = 8
BETS_PER_CLIENT: Final = 6_300
"""Ninety batches in all: some ten seconds of flood."""

QUICK_BETS_PER_CLIENT: Final = 700


class IntakeRate(BaseModel):
    """What one lane took. `acknowledged_bets_per_s`: in the middle of the flood; `seconds`: of all of it."""

    model_config = ConfigDict(frozen=True)

    bets: int
    seconds: float
    acknowledged_bets_per_s: float
    audit: Audit


async def measure(where: Where, progress: Progress, *, quick: bool) -> IntakeRate:
    """On a stack of its own. Raises `NotSettled`, `CroupierError`, `ChildFailed`."""
    each = QUICK_BETS_PER_CLIENT if quick else BETS_PER_CLIENT
    crowds = [
        Crowd(f"intake-{client}", Mix.FEW, bets=each, players=PLAYERS_PER_CLIENT, seed=client)
        for client in range(CLIENTS)
    ]
    bets, flood = each * CLIENTS, Flood()
    async with bench_stack(where, "intake", ROOMY_LANE.quick if quick else ROOMY_LANE, progress) as running:
        await running.fund(dict(deposit for crowd in crowds for deposit in crowd.deposits().items()), progress)
        placing = asyncio.create_task(flood.place(running, *(crowd.stream() for crowd in crowds)))
        try:
            await settled(running, bets, placing, lambda part: progress("intake, and settling", part))
        finally:
            placing.cancel()
        found = await audit(running, bets)
    return IntakeRate(
        bets=bets,
        seconds=round(flood.seconds, 1),
        acknowledged_bets_per_s=round(steady_window(flood.answers, RAMP_SHARE).rate, 1),
        audit=found.model_copy(update={"differences": [*flood.refused, *found.differences]}),
    )


def show(console: Console, rate: IntakeRate) -> None:
    """One line."""
    console.print(
        f"Intake on one lane: {rate.acknowledged_bets_per_s:,} bets acknowledged a second ({rate.bets:,} in {rate.seconds} s)"
    )
