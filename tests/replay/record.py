"""Records the histories that the replay tests hold the workflows to: `python -m tests.replay.record`.

Run it after a change of a workflow that is meant to be incompatible with what runs, and only then: a compatible change (a patch)
must still replay the histories that are here. Histories of a release that runs somewhere must be kept.
"""

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any, Final

from temporalio.client import WorkflowHandle, WorkflowHistory

from journal.migrate import upgrade
from settlement.breaker import BreakerStatus
from settlement.errors import HouseUncovered, LedgerUnavailable, ProofRejected
from settlement.lane_queue import MIN_BETS_PER_PARKING, MIN_QUEUED_BETS
from settlement.lanes import BatcherState, QueuedBet
from settlement.lifecycle import BatchStatus
from tests.workflow.casino import LANE, PLAYERS, STRANGER, Casino, bet, open_casino, some_bets
from tests.workflow.fakes import Fate
from workflows import names
from workflows.batcher import Batcher, BatcherInput, BatcherSettings
from workflows.circuits import CircuitsWorkflow
from workflows.settlement import Settlement

HISTORIES: Final = Path(__file__).parent / "histories"
MACHINE_FIELDS: Final = {"stackTrace", "identity"}


async def batcher_continued_as_new(casino: Casino) -> list[WorkflowHistory]:
    """Two runs: bets by all doors, duplicates, rejections, a pause, new settings, timers, and batches in flight between them."""
    lane = await casino.open_lane(max_bets=3, max_in_flight=2)
    first_run = (await lane.describe()).run_id
    bets = some_bets(7)
    await casino.place_many(bets[:4])
    await casino.place_many([bets[0], bet("bet-1", stake=999)])
    await casino.signal({"bet_id": "no-bet"})
    await casino.signal()
    await casino.rejections(3)
    await casino.idle()
    await casino.pass_time(300)
    await lane.signal(Batcher.pause)
    tracked = await casino.intake.track(bets[4])

    async def is_queued() -> bool:
        return (await casino.status()).queued == 1

    await casino.soon(is_queued)
    so_far = len((await lane.fetch_history()).events)
    await casino.start_lane(max_bets=3, max_in_flight=2, continue_as_new_after_events=so_far)

    async def continued() -> bool:
        return (await lane.describe()).run_id != first_run

    await casino.soon(continued)
    await casino.open_lane(max_bets=3, max_in_flight=2, window_seconds=0.5)
    await lane.signal(Batcher.resume)
    await casino.place_many(bets[5:])
    await casino.result(tracked)
    await casino.idle()
    second_run = (await lane.describe()).run_id
    return [
        await casino.client.get_workflow_handle(lane.id, run_id=run).fetch_history() for run in (first_run, second_run)
    ]


async def batcher_flooded(casino: Casino) -> list[WorkflowHistory]:
    """More bets than the queue has room for: a page of them is parked, taken up and removed. The run before has left them all."""
    since = await casino.env.get_current_time()
    bets = [QueuedBet(bet=bet, since=since, tracked=False) for bet in some_bets(MIN_QUEUED_BETS // 2 + 10)]
    behind = [QueuedBet(bet=bet, since=since, tracked=False) for bet in some_bets(MIN_BETS_PER_PARKING, "behind")]
    await casino.client.start_workflow(
        Batcher.run,
        BatcherInput(
            lane=LANE,
            settings=BatcherSettings(window_seconds=1.0),
            state=BatcherState(queue=bets, overflow=behind, opened=True, looked=True, paused=True),
        ),
        id=names.batcher_id(LANE),
        task_queue=names.SETTLEMENT_QUEUE,
    )

    async def parked() -> bool:
        return bool((await casino.journal.parked(LANE, 0, 1)).bets)

    await casino.soon(parked)
    await casino.batcher().signal(Batcher.resume)
    await casino.idle()
    return [await casino.batcher().fetch_history()]


async def batcher_breaker(casino: Casino) -> list[WorkflowHistory]:
    """Settlements that are stuck, one that is tried and gets stuck, one that is tried and closes."""
    lane = await casino.open_lane(max_bets=1, breaker_after=2)
    casino.ledger.script.fail("sign", *[ProofRejected("nobody foresaw this")] * 3)
    await casino.place_many(some_bets(2, "stuck"))

    async def opened() -> bool:
        return (await casino.status()).breaker is BreakerStatus.OPEN

    await casino.soon(opened)
    await casino.place_many(some_bets(2))

    async def closed_again() -> bool:
        status = await casino.status()
        return not status.queued and status.breaker is BreakerStatus.CLOSED

    await casino.after_time(closed_again)
    return [await lane.fetch_history()]


async def settlement_retried(casino: Casino) -> list[WorkflowHistory]:
    """Activities that failed and were tried again, some until the lane was told; an attempt that expired; a tracked bet that is told."""
    await casino.open_lane()
    casino.ledger.script.fail("house", LedgerUnavailable("no answer"))
    casino.ledger.script.fail("sign", *[LedgerUnavailable("no answer")] * 9)
    casino.ledger.script.fail("judge", LedgerUnavailable("no answer"))
    casino.ledger.fates.append(Fate.EXPIRES)
    handle = await casino.start_batch(some_bets(3), tracked=["bet-0"])
    await casino.result(handle)
    return [await handle.fetch_history()]


async def settlement_ejected(casino: Casino) -> list[WorkflowHistory]:
    """A bet without a vault, a loss refused while it was proven, and a second proof of the rest."""
    await casino.open_lane()
    casino.prover.gate.clear()
    handle = await casino.start_batch([bet("homeless", player=STRANGER), bet("doomed", player=3), *some_bets(2)])

    async def proving() -> bool:
        return bool(casino.prover.waiting)

    await casino.soon(proving)
    casino.ledger.fund_vault(LANE, PLAYERS[3], 0)
    casino.prover.gate.set()
    await casino.result(handle)
    return [await handle.fetch_history()]


async def settlement_parked(casino: Casino) -> list[WorkflowHistory]:
    """Parked, retried by itself, parked again with an attempt that may land, and woken by a person."""
    await casino.open_lane()
    casino.ledger.script.fail("sign", HouseUncovered("send it SOL"))
    casino.ledger.script.fail("judge", ProofRejected("nobody foresaw this"))
    bets = some_bets(2)
    handle = await casino.start_batch(bets)

    async def parked_twice() -> bool:
        steps = [step.status for batch in await casino.batches() for step in batch.transitions]
        return steps.count(BatchStatus.FAILED) == 2

    await casino.after_time(parked_twice)
    await handle.signal(Settlement.retry)
    await casino.result(handle)
    return [await handle.fetch_history()]


async def settlement_of_nothing(casino: Casino) -> list[WorkflowHistory]:
    """A batch of duplicates, and a number that the chain has given away."""
    await casino.open_lane()
    casino.prover.gate.clear()
    bets = some_bets(2)
    first = await casino.start_batch(bets)
    await casino.being_proven()
    casino.ledger.take_number(LANE, 1)
    casino.prover.gate.set()
    await casino.result(first)
    again = await casino.start_batch(bets[::-1])
    await casino.result(again)
    return [await first.fetch_history(), await again.fetch_history()]


async def bet_settled(casino: Casino) -> list[WorkflowHistory]:
    """A bet told by its batch, and a duplicate that looks by itself."""
    await casino.open_lane(max_bets=1)
    handle = await casino.intake.track(bet("tracked"))
    await casino.result(handle)
    twice = bet("twice", player=1)
    await casino.place_many([twice])
    await casino.idle()
    found = await casino.intake.track(twice)
    await casino.result(found)
    return [await handle.fetch_history(), await found.fetch_history()]


async def bet_rejected(casino: Casino) -> list[WorkflowHistory]:
    """No bet at all, and one that its lane rejects."""
    await casino.open_lane()
    await casino.place_many([bet("same-id")])

    async def run(workflow_id: str, *arguments: Any) -> WorkflowHandle[Any, Any]:
        handle = await casino.client.start_workflow(
            names.BET_WORKFLOW, args=arguments, id=workflow_id, task_queue=names.SETTLEMENT_QUEUE
        )
        await casino.result(handle)
        return handle

    handles = [await run("bet-none"), await run("bet-same-id", bet("same-id", stake=999))]
    return [await handle.fetch_history() for handle in handles]


async def reconciliation_of_two_lanes(casino: Casino) -> list[WorkflowHistory]:
    """Two lanes, of which one differs."""
    await casino.settle(some_bets(2))
    casino.ledger.take_number(1, 9)
    await casino.reconcile(lanes=2)
    return [await casino.client.get_workflow_handle(names.RECONCILIATION_ID).fetch_history()]


async def circuits_read(casino: Casino) -> list[WorkflowHistory]:
    """The ledger answers at the second try."""
    casino.ledger.script.fail("circuits", LedgerUnavailable("no answer"))
    handle = await casino.client.start_workflow(
        CircuitsWorkflow.run, id=names.CIRCUITS_ID, task_queue=names.SETTLEMENT_QUEUE
    )
    await casino.result(handle)
    return [await handle.fetch_history()]


RECORDERS: Final = (
    batcher_continued_as_new,
    batcher_flooded,
    batcher_breaker,
    settlement_retried,
    settlement_ejected,
    settlement_parked,
    settlement_of_nothing,
    bet_settled,
    bet_rejected,
    reconciliation_of_two_lanes,
    circuits_read,
)


async def record() -> dict[str, str]:
    """Every recorder's histories as JSON, by file name: `<recorder>-<n>.json`."""
    files: dict[str, str] = {}
    for recorder in RECORDERS:
        with tempfile.TemporaryDirectory() as temporary:
            journal = Path(temporary) / "journal.db"
            await upgrade(f"sqlite:///{journal}")
            async with open_casino(journal) as casino:
                histories = await recorder(casino)
        for number, history in enumerate(histories):
            # Without the spaces of `to_json` a file is half as long.
            compact = json.dumps({"workflow_id": history.workflow_id, "history": _portable(history.to_json_dict())})
            name = f"{recorder.__name__}-{number}.json"
            files[name] = compact + "\n"
            print(f"{name}: {len(history.events)} events, {len(compact)} bytes")
    return files


def main() -> None:
    """Replaces the recorded histories by new ones, once all of them could be recorded."""
    files = asyncio.run(record())
    HISTORIES.mkdir(exist_ok=True)
    for stale in HISTORIES.glob("*.json"):
        stale.unlink()
    for name, text in files.items():
        (HISTORIES / name).write_text(text)


def _portable(value: Any) -> Any:
    """A history's JSON without what it tells of the machine that it was recorded on."""
    if isinstance(value, dict):
        fields: dict[str, Any] = value  # pyright: ignore[reportUnknownVariableType]
        return {name: _portable(field) for name, field in fields.items() if name not in MACHINE_FIELDS}
    if isinstance(value, list):
        items: list[Any] = value  # pyright: ignore[reportUnknownVariableType]
        return [_portable(item) for item in items]
    return value


if __name__ == "__main__":
    main()
