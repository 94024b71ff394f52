"""How long bets take at a load of half the prover's own rate, from acknowledgement to Confirmed.

Bets arrive at random moments, whether or not earlier ones are done (open loop), one by one, as from many clients at once.
"""

import asyncio
import random
import time
from contextlib import closing
from statistics import median
from typing import Final

from pydantic import BaseModel, ConfigDict
from rich.console import Console

from bench import books, prover
from bench.end_to_end import ONE_LANE
from bench.figures import percentile
from bench.settling import Audit, audit, settled
from bench.site import Where, bench_stack
from bench.traffic import Crowd, Mix
from client.placing import Placer
from operations.provisioning import Progress
from prover.groth16 import Groth16Prover
from settlement.bets import Bet

SECONDS: Final = 75.0
"""How long bets arrive; of those of the first `WARM_SECONDS` nothing is told."""

WARM_SECONDS: Final = 10.0
QUICK_SECONDS: Final = 8.0
QUICK_WARM_SECONDS: Final = 1.0
PLAYERS: Final = 32
LOAD: Final = 0.5
CEILING_BATCHES: Final = 8
CEILING_ROUNDS: Final = 3
"""As is measured here, with nothing else running."""


class HalfLoad(BaseModel):
    """Milliseconds from acknowledgement to Confirmed. `arrivals_per_s`: half of the prover's own rate."""

    model_config = ConfigDict(frozen=True)

    bets: int
    arrivals_per_s: float
    p50: float
    p95: float
    p99: float
    window_seconds: float
    slot_ms: int
    audit: Audit


async def measure(where: Where, progress: Progress, *, quick: bool) -> HalfLoad:
    """On a stack of its own. Raises `NotSettled`, `CroupierError`, `ChildFailed`."""
    seconds, warm = (QUICK_SECONDS, QUICK_WARM_SECONDS) if quick else (SECONDS, WARM_SECONDS)
    acknowledged: dict[str, float] = {}
    lanes = ONE_LANE.quick if quick else ONE_LANE
    async with bench_stack(where, "half-load", lanes, progress) as running:
        rate = LOAD * await _ceiling(where, progress)
        crowd = Crowd("half", Mix.FEW, bets=max(int(rate * seconds), 1), players=PLAYERS)
        await running.fund(crowd.deposits(), progress)
        placer, dice, began = Placer(running.intake), random.Random(crowd.seed), time.time()

        async def place(bet: Bet) -> None:
            await placer.place(bet)
            acknowledged[bet.bet_id] = time.time()

        async def arrive() -> None:
            due = time.monotonic()
            async with asyncio.TaskGroup() as placing:
                for bet in crowd.stream():
                    due += dice.expovariate(rate)
                    await asyncio.sleep(max(due - time.monotonic(), 0))
                    placing.create_task(place(bet))

        arriving = asyncio.create_task(arrive())
        try:
            await settled(running, crowd.bets, arriving, lambda part: progress(f"{rate:.0f} bets a second", part))
        finally:
            arriving.cancel()
        confirmed = books.confirmed_at(running.journal)
        found = await audit(running, crowd.bets)
    took = [confirmed[bet_id] - at for bet_id, at in acknowledged.items() if at >= began + warm]
    p50, p95, p99 = (round(percentile(took, percent) * 1000, 1) for percent in (50, 95, 99))
    return HalfLoad(
        bets=len(took),
        arrivals_per_s=round(rate, 1),
        p50=p50,
        p95=p95,
        p99=p99,
        window_seconds=lanes.window_seconds,
        slot_ms=lanes.slot_ms,
        audit=found,
    )


async def _ceiling(where: Where, progress: Progress) -> float:
    crowd = Crowd("ceiling", Mix.FEW, bets=CEILING_BATCHES * ONE_LANE.max_batch_bets, players=PLAYERS)
    batches, rates = prover.statements(crowd, ONE_LANE, CEILING_BATCHES), list[float]()
    with closing(Groth16Prover(where.keys, ONE_LANE.shapes, prover.THREADS)) as groth16:
        await groth16.load()
        for done in range(CEILING_ROUNDS):
            progress("half load: the prover alone", done / CEILING_ROUNDS)
            rates.append(await prover.bets_per_second(groth16, batches))
    progress("half load: the prover alone", 1)
    return median(rates)


def show(console: Console, load: HalfLoad) -> None:
    """One line."""
    console.print(
        f"At {load.arrivals_per_s:,} bets a second, from acknowledgement to Confirmed: p50 {load.p50:,} ms, p95 {load.p95:,} ms,"
        f" p99 {load.p99:,} ms ({load.bets:,} bets; window {load.window_seconds} s, slots of {load.slot_ms} ms)"
    )
