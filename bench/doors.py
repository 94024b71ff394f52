"""What a bet costs in Temporal through each door when batches are full: events, billable actions, bytes of history.

Counted in the histories of a real run: of the lane's Batcher while the door's bets came in, of their Settlements, and of their own
workflows where they have some. The window is long, so that batches are full also through the slowest door.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, Final

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from bench import books
from bench.flood import Flood
from bench.histories import Cost, cost_of, runs_of
from bench.intake import ROOMY_LANE
from bench.settling import Audit, audit, settled
from bench.site import BenchStack, Where, bench_stack
from bench.traffic import Crowd, Mix, as_json
from operations.provisioning import Progress
from settlement.bets import Bet
from settlement.intake import Door
from workflows import names

POLL_SECONDS: Final = 0.2
LONG_WINDOW_SECONDS: Final = 300.0
SIGNALS_AT_ONCE: Final = 20
WORKFLOWS_PER_SECOND: Final = 10
"""Temporal lets ten updates of a Batcher be in flight at once, and each of these makes one; what is refused is tried again, and billed."""

BATCHES: Final = {Door.UPDATE: 20, Door.SIGNAL: 10, Door.WORKFLOW: 2}
"""Full ones, through each door."""

QUICK_BATCHES: Final = {Door.UPDATE: 3, Door.SIGNAL: 2, Door.WORKFLOW: 1}


class DoorCost(BaseModel):
    """What a bet costs through one door, at full batches. `actions`: of all bets together, by what they were for."""

    model_config = ConfigDict(frozen=True)

    door: Door
    bets: int
    batches: int
    events_per_bet: float
    actions_per_bet: float
    history_bytes_per_bet: float
    actions: dict[str, int]


class DoorCosts(BaseModel):
    """Of every door."""

    model_config = ConfigDict(frozen=True)

    doors: list[DoorCost]
    audit: Audit


async def measure(where: Where, progress: Progress, *, quick: bool) -> DoorCosts:
    """On a stack of its own, one door after the other. Raises `NotSettled`, `CroupierError`, `ChildFailed`."""
    lanes = replace(ROOMY_LANE.quick if quick else ROOMY_LANE, window_seconds=LONG_WINDOW_SECONDS)
    crowds = {
        door: Crowd(f"{door}", Mix.FEW, bets=batches * lanes.max_batch_bets, players=32)
        for door, batches in (QUICK_BATCHES if quick else BATCHES).items()
    }
    costs: list[DoorCost] = []
    async with bench_stack(where, "doors", lanes, progress) as running:
        most = max(crowds.values(), key=lambda crowd: crowd.bets)
        await running.fund(most.deposits(), progress)
        so_far = 0
        for door, crowd in crowds.items():
            so_far += crowd.bets
            costs.append(await _through(running, door, crowd, so_far, progress))
        found = await audit(running, so_far)
    return DoorCosts(doors=costs, audit=found)


async def _through(running: BenchStack, door: Door, crowd: Crowd, so_far: int, progress: Progress) -> DoorCost:
    before = await _batcher_cost(running)
    placing = asyncio.create_task(_PLACE[door](running, list(crowd.stream())))
    try:
        await settled(running, so_far, placing, lambda part: progress(f"door {door}", part))
    finally:
        placing.cancel()
    # The last Settlements tell the Batcher, and their bets, that they are done, and end themselves.
    while (await running.intake.status(0)).in_flight:  # noqa: ASYNC110 - it is another process that ends this
        await asyncio.sleep(POLL_SECONDS)
    batches = [batch.batch_id for batch in books.settled_batches(running.journal, f"{crowd.name}-")]
    own = [names.bet_workflow_id(bet.bet_id) for bet in crowd.stream()] if door is Door.WORKFLOW else []
    client = running.stack.client
    for workflow_id in (*batches, *own):
        await client.get_workflow_handle(workflow_id).result()
    cost = await _batcher_cost(running) - before
    cost += await cost_of(client, [(workflow_id, None) for workflow_id in (*batches, *own)])
    return DoorCost(
        door=door,
        bets=crowd.bets,
        batches=len(batches),
        events_per_bet=round(cost.events / crowd.bets, 4),
        actions_per_bet=round(cost.actions.total() / crowd.bets, 4),
        history_bytes_per_bet=round(cost.history_bytes / crowd.bets, 1),
        actions=dict(cost.actions),
    )


async def _by_update(running: BenchStack, bets: Sequence[Bet]) -> None:
    await Flood().place(running, bets)


async def _by_signal(running: BenchStack, bets: Sequence[Bet]) -> None:
    intake, rest = running.intake, iter(bets)

    async def keep_signalling() -> None:
        for bet in rest:
            await intake.signal(as_json(bet))

    await asyncio.gather(*(keep_signalling() for _ in range(SIGNALS_AT_ONCE)))


async def _by_workflow(running: BenchStack, bets: Sequence[Bet]) -> None:
    intake = running.intake
    async with asyncio.TaskGroup() as tracking:
        for bet in bets:
            tracking.create_task(intake.track(bet))
            await asyncio.sleep(1 / WORKFLOWS_PER_SECOND)


_PLACE: Final[dict[Door, Callable[[BenchStack, Sequence[Bet]], Coroutine[Any, Any, None]]]] = {
    Door.UPDATE: _by_update,
    Door.SIGNAL: _by_signal,
    Door.WORKFLOW: _by_workflow,
}


async def _batcher_cost(running: BenchStack) -> Cost:
    client = running.stack.client
    return await cost_of(client, await runs_of(client, f"WorkflowId = '{names.batcher_id(0)}'"))


def show(console: Console, costs: DoorCosts) -> None:
    """A row for each door, and what the actions are."""
    table = Table(title="A bet in Temporal, at full batches", title_justify="left")
    for heading in ("door", "bets", "batches", "events a bet", "actions a bet", "history bytes a bet"):
        table.add_column(heading, justify="left" if heading == "door" else "right")
    for cost in costs.doors:
        figures = (cost.bets, cost.batches, cost.events_per_bet, cost.actions_per_bet, cost.history_bytes_per_bet)
        table.add_row(cost.door, *(f"{figure:,}" for figure in figures))
    console.print(table)
    for cost in costs.doors:
        most = sorted(cost.actions.items(), key=lambda item: -item[1])
        console.print(f"{cost.door}: " + ", ".join(f"{count:,} {what}" for what, count in most))
