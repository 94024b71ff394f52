"""How long one bet takes that comes alone, from placement to Confirmed, and where the time goes.

One bet after the other on an idle stack. The window is a setting, which every bet waits out here, and a batch is Confirmed when its
slot is final, which is the chain's time: the rest is ours. The chain's slots are made short here, or the run would take half an hour;
what is ours does not depend on them.
"""

import asyncio
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Final

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from bench import books
from bench.books import SettledBatch
from bench.chain_clock import ChainClock
from bench.end_to_end import ONE_LANE
from bench.figures import percentile
from bench.histories import NANOSECONDS, activity_ends
from bench.settling import PATIENCE_SECONDS, Audit, NotSettled, audit
from bench.site import BenchStack, Where, bench_stack
from bench.traffic import Crowd, Mix
from client.placing import Placer
from operations.provisioning import Progress
from settlement.bets import Bet
from settlement.lifecycle import BatchStatus

FULL: Final = Crowd("lone", Mix.FEW, bets=100, players=32)
QUICK: Final = Crowd("lone", Mix.FEW, bets=5, players=32)

SLOT_MS: Final = 50
"""Final after 1.6 seconds. The chain is looked at every half a second from the sending on, so with slots of this length *confirm* is nearly
as long as it can be; with slots so short, their length decides that, and it must not flatter."""

WINDOW_SECONDS: Final = 1.0
"""A shorter one takes as long: Temporal bumps shorter timers up to a second (`history.timerProcessorMaxTimeShift`)."""

LANE: Final = replace(ONE_LANE, window_seconds=WINDOW_SECONDS, slot_ms=SLOT_MS)
POLL_SECONDS: Final = 0.02

WINDOW: Final = "window"
SLOTS: Final = "slots"
NOT_OURS: Final = (WINDOW, SLOTS)

_PART_OF: Final = {
    "claim_batch": "claim",
    "prove_batch": "prove",
    "sign_settlement": "sign",
}
"""Which part of the time the stretch belongs to that ends with the completion of an activity."""


class LoneBet(BaseModel):
    """Milliseconds. `parts`: medians, of all that the time goes into; `ours`: the medians of what is not window or slots together.

    *Place*: until it is acknowledged. *Cut*: until its Settlement has begun, but for the window. *Claim*, *prove*, *sign*: until that is
    done, the way to and from the worker included. *Submit*: until it is sent, and the journal says so. *Slots*: until the chain has made
    it final. *Confirm*: until we know, and the journal says so.
    """

    model_config = ConfigDict(frozen=True)

    bets: int
    p50: float
    p99: float
    ours_p50: float
    parts: dict[str, float]
    window_seconds: float
    slot_ms: int
    audit: Audit


async def measure(where: Where, progress: Progress, *, quick: bool) -> LoneBet:
    """On a stack of its own. Raises `NotSettled`, `CroupierError`, `ChildFailed`."""
    crowd = QUICK if quick else FULL
    totals: list[float] = []
    parts: defaultdict[str, list[float]] = defaultdict(list)
    async with bench_stack(where, "lone-bet", LANE, progress) as running:
        await running.fund(crowd.deposits(), progress)
        clock = ChainClock(SLOT_MS / 1000)
        looking = asyncio.create_task(clock.keep_looking(running.stack.rpc_url))
        placed: list[tuple[Bet, float, float]] = []
        try:
            placer = Placer(running.intake)
            for number, bet in enumerate(crowd.stream()):
                progress("lone bets", number / crowd.bets)
                began = time.time()
                await placer.place(bet)
                placed.append((bet, began, time.time()))
                await _confirmed(running.journal, len(placed))
            progress("lone bets", 1)
        finally:
            looking.cancel()
        batches = {batch.first_bet: batch for batch in books.settled_batches(running.journal)}
        for bet, began, acknowledged in placed:
            batch = batches[bet.bet_id]
            totals.append(batch.confirmed_at - began)
            for part, seconds in (await _parts(running, clock, batch, began, acknowledged)).items():
                parts[part].append(seconds)
        found = await audit(running, crowd.bets)
    ours = [sum(parts[part][number] for part in parts if part not in NOT_OURS) for number in range(len(totals))]
    return LoneBet(
        bets=crowd.bets,
        p50=_ms(percentile(totals, 50)),
        p99=_ms(percentile(totals, 99)),
        ours_p50=_ms(percentile(ours, 50)),
        parts={part: _ms(median(values)) for part, values in parts.items()},
        window_seconds=WINDOW_SECONDS,
        slot_ms=SLOT_MS,
        audit=found,
    )


async def _confirmed(journal: Path, bets: int) -> None:
    started_at = time.monotonic()
    while books.settled_bets(journal) < bets:
        if time.monotonic() - started_at > PATIENCE_SECONDS:
            raise NotSettled(f"bet {bets} of those placed one by one was not settled in {PATIENCE_SECONDS:.0f} seconds")
        await asyncio.sleep(POLL_SECONDS)


async def _parts(
    running: BenchStack, clock: ChainClock, batch: SettledBatch, began: float, acknowledged: float
) -> dict[str, float]:
    """Where the time of one bet went, in seconds."""
    workflow = running.stack.client.get_workflow_handle(batch.batch_id)
    events = [event async for event in workflow.fetch_history_events()]
    started = events[0].event_time.ToNanoseconds() / NANOSECONDS
    sent, final = batch.at[BatchStatus.SUBMITTED], clock.final_at(batch.slot)
    parts = {"place": acknowledged - began, "cut": started - acknowledged - WINDOW_SECONDS, WINDOW: WINDOW_SECONDS}
    reached = started
    for activity, end in activity_ends(events):
        if activity in _PART_OF:
            part = _PART_OF[activity]
            parts[part] = parts.get(part, 0.0) + end - reached
            reached = end
    return {**parts, "submit": sent - reached, SLOTS: final - sent, "confirm": batch.confirmed_at - final}


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def show(console: Console, lone: LoneBet) -> None:
    """Where the time goes, and how long it is in all."""
    table = Table(title=f"A lone bet, in milliseconds (medians of {lone.bets})", title_justify="left")
    for part in lone.parts:
        table.add_column(part, justify="right")
    table.add_row(*(f"{milliseconds:,}" for milliseconds in lone.parts.values()))
    console.print(
        table,
        f"p50 {lone.p50:,} ms, p99 {lone.p99:,} ms; all but window and slots: {lone.ours_p50:,} ms at p50"
        f" (window {lone.window_seconds} s, slots of {lone.slot_ms} ms)",
    )
