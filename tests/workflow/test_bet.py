"""A tracked bet: a workflow whose id deduplicates and whose result is the receipt, which anybody can check against the chain."""

from typing import Any

import pytest
from temporalio.client import WorkflowHandle
from temporalio.common import RawValue, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from settlement.bets import Bet, RejectionReason, lane_of
from settlement.errors import BetRejected
from settlement.intake import Answer
from settlement.lane_queue import MIN_QUEUED_BETS
from settlement.limits import MAX_BETS_PER_UPDATE
from settlement.receipts import Receipt, root_from
from tests.workflow.casino import LANE, PLAYERS, STRANGER, Casino, as_json, bet, some_bets
from tests.workflow.fakes import Fate
from tests.workflow.test_malformed import raw
from workflows import names, visibility
from workflows.batcher import Batcher
from workflows.bet import NO_LANE, BetProgress, BetWorkflow


async def result_of(casino: Casino, handle: WorkflowHandle[Any, Receipt]) -> Receipt:
    """The receipt, with as much time as it takes to come."""

    async def closed() -> bool:
        return (await handle.describe()).close_time is not None

    await casino.after_time(closed)
    return await casino.result(handle)


async def progress(casino: Casino, tracked: Bet) -> BetProgress:
    handle = casino.client.get_workflow_handle_for(BetWorkflow.run, names.bet_workflow_id(tracked.bet_id))
    return await handle.query(BetWorkflow.status)


async def start_raw(casino: Casino, workflow_id: str, *arguments: Any) -> Receipt:
    """Runs a Bet workflow as any client may."""
    handle: WorkflowHandle[Any, Receipt] = await casino.client.start_workflow(
        names.BET_WORKFLOW, args=arguments, id=workflow_id, task_queue=names.SETTLEMENT_QUEUE, result_type=Receipt
    )
    return await casino.result(handle)


def assert_included(casino: Casino, receipt: Receipt) -> None:
    """The receipt leads from its bet to the root that the chain holds."""
    assert receipt.bet is not None
    assert receipt.inclusion is not None
    assert receipt.number is not None
    record = casino.ledger.records[LANE, receipt.number]
    assert root_from(receipt.bet, receipt.inclusion) == record.bets_root == receipt.bets_root
    assert receipt.landing is not None
    assert receipt.landing.slot == record.slot
    with pytest.raises(ValueError, match="not what the inclusion's packs hold"):
        root_from(receipt.bet.model_copy(update={"stake": receipt.bet.stake + 1}), receipt.inclusion)


async def test_the_receipt_of_a_settled_bet_verifies_against_the_chain(casino: Casino) -> None:
    await casino.open_lane(max_bets=8)
    bets = some_bets(8)
    handles = [await casino.intake.track(tracked) for tracked in bets[:4]]
    await casino.place_many(bets[4:])
    for tracked, handle in zip(bets, handles, strict=False):
        receipt = await casino.result(handle)
        assert (receipt.bet_id, receipt.status, receipt.bet) == (tracked.bet_id, "settled", tracked)
        assert_included(casino, receipt)
    await casino.assert_settled_once(bets)


async def test_tasks_of_tracked_bets_stand_behind_those_of_lanes_where_they_pile_up(real_time_casino: Casino) -> None:
    lane = await real_time_casino.open_lane()
    handle = await real_time_casino.intake.track(bet("tracked"))
    lanes, tracked = [
        (await workflow.describe()).raw_description.workflow_execution_info.priority.priority_key
        for workflow in (lane, handle)
    ]
    # 0 stands for the middle, which is 3.
    assert (lanes, tracked) == (0, 5)


async def test_a_tracked_bet_shows_each_state_on_its_way(casino: Casino) -> None:
    await casino.open_lane(max_bets=1)
    await casino.batcher().signal(Batcher.pause)
    casino.ledger.fates.append(Fate.WAITS)
    tracked = bet("tracked")
    handle = await casino.intake.track(tracked)

    async def is_queued() -> bool:
        return (await progress(casino, tracked)).state == "queued"

    await casino.soon(is_queued)
    await casino.batcher().signal(Batcher.resume)

    async def is_batched() -> bool:
        return (await progress(casino, tracked)).state == "batched"

    await casino.soon(is_batched)
    shown = await progress(casino, tracked)
    assert (shown.bet, shown.number) == (tracked, 1)
    assert shown.batch_id in (await casino.status()).in_flight
    casino.ledger.release()
    receipt = await casino.result(handle)
    shown = await progress(casino, tracked)
    assert (shown.state, shown.receipt) == ("settled", receipt)


@pytest.mark.parametrize(
    ("player", "stake", "reason"), [(STRANGER, 1, RejectionReason.NO_VAULT), (0, 10**18, RejectionReason.UNCOVERED)]
)
async def test_a_bet_refused_in_its_batch_gets_a_rejected_receipt(
    casino: Casino, player: int | str, stake: int, reason: RejectionReason
) -> None:
    refused, settled = bet("refused", player=player, stake=stake), bet("settled", player=1)
    await casino.open_lane(max_bets=2)
    handle = await casino.intake.track(refused)
    other = await casino.intake.track(settled)
    receipt = await casino.result(handle)
    assert (receipt.status, receipt.reason, receipt.bet) == ("rejected", reason, refused)
    assert receipt.batch_id == (await casino.record_of(refused)).batch_id
    assert receipt.detail
    assert_included(casino, await casino.result(other))


async def test_a_bet_refused_at_the_lane_s_door_gets_a_rejected_receipt(casino: Casino) -> None:
    await casino.open_lane()
    await casino.place_many([bet("same-id")])
    receipt = await start_raw(casino, "bet-same-id", as_json([bet("same-id", stake=999)])[0])
    assert (receipt.status, receipt.reason) == ("rejected", RejectionReason.CONFLICT)
    (rejection,) = await casino.rejections(1)
    assert (rejection.bet_id, rejection.reason) == ("same-id", RejectionReason.CONFLICT)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], RejectionReason.MALFORMED),
        (["heads"], RejectionReason.MALFORMED),
        ([raw(b"{")], RejectionReason.MALFORMED),
        ([{**as_json([bet("odd")])[0], "stake": 0}], RejectionReason.STAKE_OUT_OF_RANGE),
        ([{**as_json([bet("odd")])[0], "guess": "edge"}], RejectionReason.MALFORMED),
        (as_json([bet("another-id")]), RejectionReason.MALFORMED),
    ],
)
async def test_what_is_no_bet_of_that_id_gets_a_rejected_receipt_and_is_recorded(
    casino: Casino, arguments: list[Any], reason: RejectionReason
) -> None:
    receipt = await start_raw(casino, "bet-odd", *arguments)
    assert (receipt.status, receipt.reason) == ("rejected", reason)
    (rejection,) = await casino.rejections(1)
    assert (rejection.reason, rejection.detail, rejection.lane) == (reason, receipt.detail, NO_LANE)
    sent = arguments[0] if arguments else None
    assert sent is None or (rejection.payload == "{" if isinstance(sent, RawValue) else rejection.payload)


async def test_a_second_start_is_refused_and_tracking_again_gives_the_same_receipt(casino: Casino) -> None:
    await casino.open_lane(max_bets=1)
    tracked = bet("tracked")
    receipt = await casino.result(await casino.intake.track(tracked))
    with pytest.raises(WorkflowAlreadyStartedError):
        await casino.client.start_workflow(
            names.BET_WORKFLOW,
            tracked,
            id="bet-tracked",
            task_queue=names.SETTLEMENT_QUEUE,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
        )
    again = await casino.result(await casino.intake.track(tracked))
    assert again == receipt
    await casino.idle()
    await casino.assert_settled_once([tracked])


async def test_a_bet_tracked_after_its_batch_ended_is_found_by_that_batch(casino: Casino) -> None:
    await casino.open_lane(max_bets=1)
    late = bet("late")
    await casino.place_many([late])
    await casino.idle()
    handle = await casino.intake.track(late)
    batch = (await casino.result(handle)).batch_id
    attributes = (await handle.describe()).typed_search_attributes
    assert (attributes[visibility.BATCH_ID], attributes[visibility.BATCH_NUMBER]) == (batch, 1)
    assert attributes[visibility.LANE] == LANE


async def test_tracking_a_bet_that_is_on_its_way_already_gives_its_workflow(casino: Casino) -> None:
    await casino.open_lane(max_bets=2)
    tracked, other = bet("tracked"), bet("other", player=1)
    first = await casino.intake.track(tracked)
    second = await casino.intake.track(tracked)
    assert first.id == second.id
    await casino.place_many([other])
    assert await casino.result(first) == await casino.result(second)
    await casino.assert_settled_once([tracked, other])


async def test_other_content_under_a_tracked_id_is_recorded_as_a_conflict(casino: Casino) -> None:
    await casino.open_lane(max_bets=1)
    tracked = bet("tracked")
    receipt = await casino.result(await casino.intake.track(tracked))
    with pytest.raises(BetRejected) as refusal:
        await casino.intake.track(bet("tracked", stake=999))
    assert (refusal.value.bet_id, refusal.value.reason) == ("tracked", RejectionReason.CONFLICT)
    assert receipt.bet == tracked
    (rejection,) = await casino.rejections(1)
    assert (rejection.bet_id, rejection.reason) == ("tracked", RejectionReason.CONFLICT)


async def test_a_tracked_duplicate_of_a_queued_bet_hears_of_its_batch(casino: Casino) -> None:
    await casino.open_lane(max_bets=2)
    twice, other = bet("twice"), bet("other", player=1)
    assert [answer.answer for answer in await casino.place_many([twice])] == [Answer.ACCEPTED]
    handle = await casino.intake.track(twice)

    async def is_queued() -> bool:
        return (await progress(casino, twice)).state == "queued"

    await casino.soon(is_queued)
    await casino.place_many([other])

    # Told by the batch, not found by asking in time: no time is skipped here.
    async def is_settled() -> bool:
        return (await progress(casino, twice)).state == "settled"

    await casino.soon(is_settled)
    assert_included(casino, await casino.result(handle))
    await casino.assert_settled_once([twice, other])


async def test_a_tracked_duplicate_of_a_settled_bet_gets_the_original_s_receipt(casino: Casino) -> None:
    await casino.open_lane(max_bets=1)
    twice = bet("twice")
    await casino.place_many([twice])
    await casino.idle()
    receipt = await result_of(casino, await casino.intake.track(twice))
    assert_included(casino, receipt)
    await casino.assert_settled_once([twice])


async def test_a_tracked_duplicate_of_a_bet_that_only_the_journal_knows_gets_the_original_s_receipt(
    casino: Casino,
) -> None:
    twice = bet("twice")
    casino.ledger.fates.append(Fate.WAITS)
    await casino.start_batch([twice])

    async def submitted() -> bool:
        return bool(casino.ledger.sent)

    await casino.soon(submitted)
    await casino.open_lane(max_bets=2)
    handle = await casino.intake.track(twice)

    async def is_queued() -> bool:
        return (await casino.status()).queued == 1

    await casino.soon(is_queued)
    other = bet("other", player=1)
    await casino.place_many([other])

    async def other_confirmed() -> bool:
        return casino.ledger.payments == 1

    await casino.soon(other_confirmed)
    casino.ledger.release()
    receipt = await result_of(casino, handle)
    assert receipt.number == 1
    assert_included(casino, receipt)
    await casino.assert_settled_once([twice, other])


async def test_a_tracked_bet_waits_out_a_saturated_lane(casino: Casino) -> None:
    lane = await casino.open_lane(max_bets=8)
    await lane.signal(Batcher.pause)
    bets = some_bets(MIN_QUEUED_BETS)
    for start in range(0, len(bets), MAX_BETS_PER_UPDATE):
        await casino.place_many(bets[start : start + MAX_BETS_PER_UPDATE])
    patient = bet("patient", player=5)
    handle = await casino.intake.track(patient)
    await casino.pass_time(60)
    assert (await progress(casino, patient)).state == "received"
    await lane.signal(Batcher.resume)
    assert_included(casino, await result_of(casino, handle))
    await casino.assert_settled_once([*bets, patient])


async def test_a_tracked_bet_starts_a_lane_that_does_not_run(casino: Casino) -> None:
    lonely = bet("lonely")
    assert_included(casino, await result_of(casino, await casino.intake.track(lonely)))


async def test_no_arguments_of_a_signal_can_stop_a_tracked_bet(casino: Casino) -> None:
    await casino.open_lane()
    tracked = bet("tracked")
    handle = await casino.intake.track(tracked)
    for arguments in ([], [None], ["x", "y"], [{"final": "perhaps"}], [raw(b"{")]):
        await handle.signal("news", args=arguments)
    assert_included(casino, await result_of(casino, handle))


async def test_a_tracked_bet_goes_to_its_player_s_lane(casino: Casino) -> None:
    number = next(n for n, player in enumerate(PLAYERS) if lane_of(player, 2) == 1)
    await casino.open_lane(lane=1, lanes=2)
    tracked = bet("tracked", player=number)
    receipt = await result_of(casino, await casino.intake.track(tracked))
    assert (receipt.status, receipt.lane) == ("settled", 1)
