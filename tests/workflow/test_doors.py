"""The three doors of a lane: what each answers, and that all end in one queue."""

from typing import Any, Final

import pytest
from temporalio.api.workflowservice.v1 import UpdateWorkflowExecutionRequest, UpdateWorkflowExecutionResponse
from temporalio.client import WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.service import RPCError, RPCStatusCode

from client import intake
from client.intake import TemporalIntake
from settlement.bets import RejectionReason, lane_of
from settlement.errors import LaneSaturated, LaneUnavailable
from settlement.intake import Answer
from settlement.lane_queue import MIN_QUEUED_BETS, QUEUED_BATCHES
from settlement.limits import MAX_BETS_PER_UPDATE
from settlement.receipts import Receipt
from tests.workflow.casino import LANE, PLAYERS, Casino, as_json, bet, some_bets
from workflows.batcher import Batcher


async def queued(casino: Casino, count: int) -> None:
    async def are_queued() -> bool:
        return (await casino.status()).queued == count

    await casino.soon(are_queued)


async def test_the_three_doors_end_in_one_queue_in_the_order_of_coming(casino: Casino) -> None:
    await casino.open_lane()
    bets = some_bets(6)
    await casino.place_many(bets[:1])
    await casino.signal(bets[1])
    await queued(casino, 2)
    tracked = await casino.intake.track(bets[2])
    await queued(casino, 3)
    await casino.signal(bets[3])
    await queued(casino, 4)
    await casino.place_many(bets[4:])

    receipt: Receipt = await casino.result(tracked)
    assert receipt.status == "settled"
    await casino.idle()
    assert await casino.bet_ids() == [[b.bet_id for b in bets]]
    await casino.assert_settled_once(bets)


async def test_an_update_answers_each_bet_by_itself(casino: Casino) -> None:
    await casino.open_lane()
    good, better = bet("good"), bet("better")
    sent = [*as_json([good]), {"bet_id": "bad", "stake": "much"}, "nonsense", *as_json([better, good])]
    answers = await casino.intake.place_many(LANE, sent)
    assert [answer.answer for answer in answers] == [
        Answer.ACCEPTED,
        Answer.REJECTED,
        Answer.REJECTED,
        Answer.ACCEPTED,
        Answer.DUPLICATE,
    ]
    assert [answer.bet_id for answer in answers] == ["good", "bad", None, "better", "good"]
    assert answers[1].reason is RejectionReason.MALFORMED
    assert "stake" in answers[1].detail
    await casino.idle()
    await casino.assert_settled_once([good, better])
    assert {rejection.bet_id for rejection in await casino.rejections(2)} == {"bad", None}


@pytest.mark.parametrize("sent", [None, "bets", 7, {"bet_id": "alone"}])
async def test_an_update_that_is_no_list_is_refused_whole(casino: Casino, sent: object) -> None:
    await casino.open_lane()
    with pytest.raises(WorkflowUpdateFailedError) as refusal:
        await casino.update(sent)
    assert "a list of bets" in str(refusal.value.cause)
    assert (await casino.status()).counters.rejected == 0


async def test_an_update_of_too_many_bets_is_refused_whole(casino: Casino) -> None:
    await casino.open_lane(max_bets=64)
    with pytest.raises(WorkflowUpdateFailedError) as refusal:
        await casino.place_many(some_bets(MAX_BETS_PER_UPDATE + 1))
    assert f"up to {MAX_BETS_PER_UPDATE} bets" in str(refusal.value.cause)
    assert (await casino.status()).queued == 0


async def test_an_update_starts_a_lane_that_does_not_run(casino: Casino) -> None:
    bets = some_bets(3)
    answers = await casino.place_many(bets)
    assert {answer.answer for answer in answers} == {Answer.ACCEPTED}
    await casino.idle()
    await casino.assert_settled_once(bets)


async def test_a_bet_of_another_lane_is_rejected_at_every_door(casino: Casino) -> None:
    await casino.open_lane(lanes=2)
    foreign = next(n for n, player in enumerate(PLAYERS) if lane_of(player, 2) == 1)
    local = next(n for n, player in enumerate(PLAYERS) if lane_of(player, 2) == 0)
    answers = await casino.place_many([bet("updated", player=foreign), bet("local", player=local)])
    assert [answer.reason for answer in answers] == [RejectionReason.WRONG_LANE, None]
    assert "belongs to lane 1" in answers[0].detail
    await casino.signal(bet("signalled", player=foreign))

    rejections = await casino.rejections(2)
    assert {rejection.reason for rejection in rejections} == {RejectionReason.WRONG_LANE}
    assert {rejection.bet_id for rejection in rejections} == {"updated", "signalled"}
    assert (await casino.status()).queued == 1


async def test_a_saturated_lane_refuses_updates_until_it_has_drained(casino: Casino) -> None:
    lane = await casino.open_lane(max_bets=MIN_QUEUED_BETS // QUEUED_BATCHES)
    await lane.signal(Batcher.pause)
    bets = some_bets(MIN_QUEUED_BETS)
    for start in range(0, len(bets), MAX_BETS_PER_UPDATE):
        await casino.place_many(bets[start : start + MAX_BETS_PER_UPDATE])
    late = bet("late")
    with pytest.raises(LaneSaturated, match=f"saturated with {MIN_QUEUED_BETS} queued bets"):
        await casino.place_many([late])
    with pytest.raises(LaneSaturated):
        await casino.place(late, tracked=True)
    assert (await casino.status()).queued == len(bets)

    await lane.signal(Batcher.resume)
    await casino.idle()
    assert [answer.answer for answer in await casino.place_many([late])] == [Answer.ACCEPTED]
    await casino.idle()
    await casino.assert_settled_once([*bets, late])


TASK_FAILED: Final = RPCError(
    "Unable to perform workflow execution update due to unexpected workflow task failure.",
    RPCStatusCode.FAILED_PRECONDITION,
    b"",
)
"""As the server answers the updates of a workflow task that fails."""


class DroppedUpdates:
    """Answers the next `count` updates with `error`."""

    def __init__(self, count: int, error: Exception = TASK_FAILED) -> None:
        self.count = count
        self.error = error


def intake_through(casino: Casino, dropped: DroppedUpdates) -> TemporalIntake:
    service = casino.client.workflow_service
    update = service.update_workflow_execution

    async def answer(
        req: UpdateWorkflowExecutionRequest, *args: Any, **options: Any
    ) -> UpdateWorkflowExecutionResponse:
        if dropped.count == 0:
            return await update(req, *args, **options)
        dropped.count -= 1
        raise dropped.error

    service.update_workflow_execution = answer
    return casino.intake


CONNECTION_LOST: Final = RPCError("tcp connect error", RPCStatusCode.UNAVAILABLE, b"")
"""As the client says it while Temporal is restarted."""


@pytest.mark.parametrize(
    "error",
    [
        TASK_FAILED,
        WorkflowUpdateRPCTimeoutOrCancelledError(),
        CONNECTION_LOST,
        RPCError("workflow update was aborted", RPCStatusCode.ABORTED, b""),
        RPCError("Timeout expired", RPCStatusCode.DEADLINE_EXCEEDED, b""),
    ],
    ids=lambda error: getattr(getattr(error, "status", None), "name", type(error).__name__),
)
async def test_bets_that_no_batcher_has_answered_are_sent_again(
    casino: Casino, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "LONGEST_WAIT_SECONDS", 0.05)
    await casino.open_lane()
    dropped = DroppedUpdates(intake.MAX_SENDS - 1, error)
    bets = some_bets(2)
    answers = await intake_through(casino, dropped).place_many(LANE, as_json(bets))
    assert (dropped.count, [answer.answer for answer in answers]) == (0, [Answer.ACCEPTED] * 2)
    await casino.idle()
    await casino.assert_settled_once(bets)


async def test_a_lane_whose_tasks_keep_failing_is_named_with_where_to_look(
    casino: Casino, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "LONGEST_WAIT_SECONDS", 0.05)
    dropped = DroppedUpdates(intake.MAX_SENDS)
    with pytest.raises(LaneUnavailable, match=r"lane 0 took no update in 10 sends.*batcher-0.*Web UI"):
        await intake_through(casino, dropped).place(bet("unheard"), tracked=False)
    assert dropped.count == 0


async def test_a_temporal_that_stays_out_of_reach_is_named_so(casino: Casino, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "LONGEST_WAIT_SECONDS", 0.05)
    dropped = DroppedUpdates(intake.MAX_SENDS, CONNECTION_LOST)
    with pytest.raises(
        LaneUnavailable, match=r"lane 0 took no update in 10 sends.*Temporal answers \(tcp connect error"
    ):
        await intake_through(casino, dropped).place(bet("unheard"), tracked=False)


async def test_what_sending_again_cannot_mend_is_raised_at_once(casino: Casino) -> None:
    dropped = DroppedUpdates(intake.MAX_SENDS, RPCError("not yours", RPCStatusCode.PERMISSION_DENIED, b""))
    with pytest.raises(RPCError, match="not yours"):
        await intake_through(casino, dropped).place(bet("unheard"), tracked=False)
    assert dropped.count == intake.MAX_SENDS - 1


async def test_rejections_that_the_journal_has_not_taken_saturate_a_lane_too(casino: Casino) -> None:
    await casino.open_lane()
    async with casino.locked_journal():
        for _ in range(MIN_QUEUED_BETS // MAX_BETS_PER_UPDATE):
            await casino.intake.place_many(LANE, [{"number": n} for n in range(MAX_BETS_PER_UPDATE)])
        with pytest.raises(LaneSaturated):
            await casino.place_many(some_bets(1))
    await casino.rejections(MIN_QUEUED_BETS)
    assert [answer.answer for answer in await casino.place_patiently(some_bets(1))] == [Answer.ACCEPTED]
