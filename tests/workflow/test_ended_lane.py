"""A lane whose Batcher is terminated, on the server that `make up` runs: no bet that it acknowledged is lost or settled twice."""

from pathlib import Path
from typing import Any
from uuid import uuid4

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.worker import Worker

from settlement.bets import RejectionReason
from settlement.intake import Answer
from tests.replay.altered import AlteredBatcher
from tests.workflow.casino import Casino, bet, open_casino, some_bets
from workflows import names
from workflows.batcher import Batcher


async def ended(casino: Casino) -> None:
    await casino.batcher().terminate("by a person, it may be")


async def test_the_bets_of_a_lane_terminated_twice_are_settled_once_signals_that_nobody_heard_included(
    journal_path: Path,
) -> None:
    queued, unheard, later = some_bets(5, "queued"), some_bets(3, "unheard"), some_bets(3, "later", players=8)
    async with open_casino(journal_path, skips_time=False, at_work=False) as casino:
        async with casino.at_work():
            await casino.open_lane(max_bets=16)
            await casino.place_many(queued)
        for late in unheard:
            await casino.signal(late)
        await ended(casino)
        await casino.start_lane(max_bets=16)
        for late in (*later, queued[0], bet(unheard[0].bet_id, stake=999)):
            await casino.signal(late)
        await ended(casino)
        await casino.start_lane(max_bets=16)
        async with casino.at_work():
            await casino.open_lane(max_bets=16)
            status = await casino.status()
            assert (status.queued, status.trouble) == (11, "")
            (conflict,) = await casino.rejections(1)
            assert (conflict.bet_id, conflict.reason) == (unheard[0].bet_id, RejectionReason.CONFLICT)
            answers = await casino.place_many([*queued, *unheard, *later])
            assert {answer.answer for answer in answers} == {Answer.DUPLICATE}
            await casino.open_lane(max_bets=4, window_seconds=0.1)
            await casino.idle()
        await casino.assert_settled_once([*queued, *unheard, *later])


async def test_an_ended_run_that_cannot_be_replayed_holds_the_lane_up_until_a_person_gives_it_up(
    journal_path: Path,
) -> None:
    new = bet("new")
    async with open_casino(journal_path, skips_time=False, at_work=False) as casino:
        async with Worker(casino.client, task_queue=names.SETTLEMENT_QUEUE, workflows=[AlteredBatcher]):
            await casino.start_lane()
            await casino.status()
        await casino.signal(bet("beyond-reach"))
        await ended(casino)
        async with casino.at_work():
            await casino.start_lane(window_seconds=0.1)

            async def cannot_be_replayed() -> bool:
                return "cannot be replayed" in (await casino.status()).trouble

            await casino.soon(cannot_be_replayed)
            await casino.signal(new)
            assert not (await casino.status()).opened
            await casino.batcher().signal(Batcher.start_afresh)
            status = await casino.idle()
            assert status.trouble.startswith("bets may be lost")
        await casino.assert_settled_once([new])


async def test_a_lane_terminated_again_and_again_under_load_settles_every_bet_once(real_time_casino: Casino) -> None:
    casino = real_time_casino
    settings: dict[str, Any] = {
        "max_bets": 4,
        "max_in_flight": 2,
        "window_seconds": 0.1,
        "continue_as_new_after_events": 60,
    }
    await casino.open_lane(**settings)
    bets = some_bets(24, players=8)
    for start in range(0, len(bets), 8):
        await casino.place_patiently(bets[start : start + 6])
        for late in bets[start + 6 : start + 8]:
            await casino.signal(late)
        await ended(casino)
        # Whoever places next starts it again.
        await casino.start_lane(**settings)
    await casino.idle()
    await casino.assert_settled_once(bets)


async def test_a_lane_that_is_reset_to_its_beginning_settles_every_bet_once(real_time_casino: Casino) -> None:
    casino = real_time_casino
    lane = await casino.open_lane(max_bets=16)
    updated, signalled = some_bets(4, "updated"), some_bets(3, "signalled")
    await casino.place_many(updated)
    for late in signalled:
        await casino.signal(late)
    first = (await lane.describe()).run_id or ""
    events = (await lane.fetch_history()).events
    completed = next(e.event_id for e in events if e.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED)
    await casino.client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=casino.client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=lane.id, run_id=first),
            reason="by a person",
            workflow_task_finish_event_id=completed,
            request_id=str(uuid4()),
        )
    )
    await casino.open_lane(max_bets=16, window_seconds=0.1)
    await casino.idle()
    await casino.assert_settled_once([*updated, *signalled])
