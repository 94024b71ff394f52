"""A batch's way onto the chain when nothing refuses it, whatever is unreachable or interrupted meanwhile: settled, and paid once."""

from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.service import RPCError

from settlement.batches import batch_id
from settlement.errors import CroupierError, LaneUnavailable, LedgerUnavailable, TemporalRefused
from settlement.lifecycle import BatchStatus
from settlement.netting import house_delta, net_by_player
from tests.workflow.casino import LANE, Casino, bet, some_bets
from tests.workflow.fakes import Fate
from workflows import names
from workflows.settlement import TELLING_TRIES, Settlement, SettlementInput, SettlementState

ALL_THE_WAY = [
    BatchStatus.PENDING,
    BatchStatus.PROVING,
    BatchStatus.PROVED,
    BatchStatus.SUBMITTED,
    BatchStatus.CONFIRMED,
]


async def statuses(casino: Casino) -> list[BatchStatus]:
    """The transitions of the one batch there is, from the journal."""
    (batch,) = await casino.batches()
    assert [step.sequence for step in batch.transitions] == list(range(len(batch.transitions)))
    return [step.status for step in batch.transitions]


async def signals_of(lane: WorkflowHandle[Any, None]) -> list[str]:
    """The names of those that the lane's run has got."""
    events = [event async for event in lane.fetch_history_events()]
    return [event.workflow_execution_signaled_event_attributes.signal_name for event in events]


async def test_every_step_of_a_batch_is_a_transition_in_the_journal_in_order(casino: Casino) -> None:
    bets = some_bets(6)
    result = await casino.settle(bets)
    assert (result.status, result.settled, result.refused, result.duplicates) == (BatchStatus.CONFIRMED, 6, 0, 0)
    assert await statuses(casino) == ALL_THE_WAY
    (batch,) = await casino.batches()
    assert batch.landing == result.landing
    assert batch.landing is not None
    assert batch.landing.signature in casino.ledger.movements
    assert [step.detail for step in batch.transitions[2:4]] == ["1000 ms", batch.landing.signature]
    await casino.assert_settled_once(bets)


async def test_nets_of_players_and_house_sum_to_zero(casino: Casino) -> None:
    bets = some_bets(12)
    await casino.settle(bets)
    (statement,) = casino.prover.proven
    assert {slot.player: slot.net for slot in statement.slots} == net_by_player(bets)
    assert statement.house_delta == house_delta(net_by_player(bets).values())
    assert casino.ledger.total == casino.ledger.supply


async def test_the_status_query_shows_where_a_batch_is_and_how_it_came_there(casino: Casino) -> None:
    casino.prover.gate.clear()
    bets = some_bets(3)
    handle = await casino.start_batch(bets)
    await casino.being_proven()
    status = await casino.batch_status(bets)
    assert (status.batch_id, status.lane, status.number) == (batch_id(LANE, bets), LANE, 1)
    assert (status.status, status.bets, status.settling) == (BatchStatus.PROVING, 3, 3)
    assert [step.status for step in status.transitions] == ALL_THE_WAY[:2]
    casino.prover.gate.set()
    await casino.result(handle)
    assert [step.status for step in (await casino.batch_status(bets)).transitions] == ALL_THE_WAY


async def test_a_settlement_whose_id_does_not_follow_from_its_bets_settles_nothing(casino: Casino) -> None:
    bets = some_bets(3)
    for claimed in (batch_id(LANE, bets[::-1]), batch_id(1, bets), "settlement-0-anything"):
        with pytest.raises(WorkflowFailureError) as failure:
            await casino.result(
                await casino.client.start_workflow(
                    Settlement.run,
                    SettlementInput(lane=LANE, bets=tuple(bets)),
                    id=claimed,
                    task_queue=names.SETTLEMENT_QUEUE,
                )
            )
        assert batch_id(LANE, bets) in str(failure.value.cause)
    assert await casino.batches() == []
    assert casino.ledger.payments == 0


@pytest.mark.parametrize("method", ["house", "vaults", "sign", "broadcast", "judge"])
async def test_an_unreachable_ledger_is_asked_again_without_end(casino: Casino, method: str) -> None:
    casino.ledger.script.fail(method, *[LedgerUnavailable("no answer")] * 30)
    bets = some_bets(4)
    result = await casino.settle(bets)
    assert casino.ledger.script.pending(method) == 0
    assert result.status is BatchStatus.CONFIRMED
    assert await statuses(casino) == ALL_THE_WAY
    await casino.assert_settled_once(bets)


async def test_a_locked_journal_is_waited_for(casino: Casino) -> None:
    bets = some_bets(4)
    async with casino.locked_journal():
        handle = await casino.start_batch(bets)

        async def tried() -> bool:
            description = await handle.describe()
            return any(pending.attempt >= 1 for pending in description.raw_description.pending_activities)

        await casino.soon(tried)
        assert await casino.batches() == []
    await casino.result(handle)
    await casino.assert_settled_once(bets)


async def test_bytes_that_did_not_land_at_first_are_sent_again_until_they_do(casino: Casino) -> None:
    casino.ledger.fates.append(Fate.WAITS)
    bets = some_bets(4)
    handle = await casino.start_batch(bets)

    async def resent() -> bool:
        return casino.ledger.script.calls.count("broadcast") >= 3

    await casino.soon(resent)
    assert (await casino.batch_status(bets)).status is BatchStatus.SUBMITTED
    casino.ledger.release()
    await casino.result(handle)
    assert casino.ledger.signed == 1
    assert await statuses(casino) == ALL_THE_WAY
    await casino.assert_settled_once(bets)


async def test_an_expired_attempt_is_signed_again_once_and_paid_once(casino: Casino) -> None:
    casino.ledger.fates.append(Fate.EXPIRES)
    bets = some_bets(4)
    await casino.settle(bets)
    attempts = await casino.journal.attempts(batch_id(LANE, bets))
    assert [attempt.attempt for attempt in attempts] == [0, 1]
    assert casino.ledger.payments == 1
    assert len(casino.prover.proven) == 1
    assert await statuses(casino) == ALL_THE_WAY
    await casino.assert_settled_once(bets)


async def test_as_many_attempts_are_signed_as_expire(casino: Casino) -> None:
    casino.ledger.fates.extend([Fate.EXPIRES] * 5)
    bets = some_bets(4)
    await casino.settle(bets)
    assert casino.ledger.signed == 6
    await casino.assert_settled_once(bets)


async def test_a_batch_that_a_rival_has_settled_is_confirmed_without_a_second_payment(casino: Casino) -> None:
    casino.prover.gate.clear()
    bets = some_bets(4)
    handle = await casino.start_batch(bets)
    (statement,) = await casino.being_proven()
    casino.ledger.settle_by_rival(statement)
    casino.prover.gate.set()
    result = await casino.result(handle)
    assert (result.status, casino.ledger.payments, casino.ledger.signed) == (BatchStatus.CONFIRMED, 1, 0)
    assert result.landing is not None
    assert result.landing.signature == "rival-1"
    assert await statuses(casino) == [*ALL_THE_WAY[:3], BatchStatus.CONFIRMED]
    await casino.assert_settled_once(bets)


async def test_a_batch_started_twice_at_once_is_one_workflow(casino: Casino) -> None:
    bets = some_bets(4)
    handle = await casino.start_batch(bets)
    with pytest.raises((WorkflowFailureError, RPCError, Exception), match="already"):
        await casino.start_batch(bets)
    await casino.result(handle)
    await casino.assert_settled_once(bets)


async def test_a_settled_batch_started_again_pays_nothing_and_ends_confirmed(casino: Casino) -> None:
    bets = some_bets(4)
    await casino.settle(bets)
    before = await casino.batches()
    result = await casino.settle(bets)
    assert result.status is BatchStatus.CONFIRMED
    assert casino.ledger.payments == 1
    assert await casino.batches() == before
    await casino.assert_settled_once(bets)


async def test_a_terminated_settlement_started_again_does_not_pay_twice(casino: Casino) -> None:
    # It is told when a batch is done; otherwise the settlement would try to tell it for a while.
    await casino.open_lane()
    casino.ledger.fates.append(Fate.WAITS)
    bets = some_bets(4)
    handle = await casino.start_batch(bets)
    await casino.reaches(bets, BatchStatus.SUBMITTED)
    await handle.terminate()
    casino.ledger.release()
    result = await casino.settle(bets)
    assert result.status is BatchStatus.CONFIRMED
    assert casino.ledger.payments == 1
    await casino.assert_settled_once(bets)


async def test_batches_settled_in_any_order_come_to_the_same_balances(casino: Casino) -> None:
    # It is told when a batch is done; otherwise the settlement would try to tell it for a while.
    await casino.open_lane()
    first, second = some_bets(4, "first"), some_bets(4, "second")
    casino.ledger.fates.append(Fate.WAITS)
    slow = await casino.start_batch(first)
    await casino.reaches(first, BatchStatus.SUBMITTED)
    assert (await casino.settle(second)).number == 2
    casino.ledger.release()
    assert (await casino.result(slow)).number == 1
    await casino.assert_settled_once([*first, *second])


async def test_a_settlement_that_continued_as_new_while_submitted_goes_on_without_signing_again(casino: Casino) -> None:
    # It is told when a batch is done; otherwise the settlement would try to tell it for a while.
    await casino.open_lane()
    casino.ledger.fates.append(Fate.WAITS)
    bets = some_bets(4)
    handle = await casino.start_batch(bets)
    await casino.reaches(bets, BatchStatus.SUBMITTED)
    await handle.terminate()
    (proven,) = casino.prover.proven
    carried = SettlementState(
        status=BatchStatus.SUBMITTED,
        sequence=4,
        proved_sequence=2,
        number=1,
        settling=4,
        statement=proven,
        proof=await casino.prover.prove(proven),
        attempts=1,
        live=await casino.journal.attempts(batch_id(LANE, bets)),
    )
    casino.ledger.release()
    again = await casino.client.start_workflow(
        Settlement.run,
        SettlementInput(lane=LANE, bets=tuple(bets), carried=carried),
        id=batch_id(LANE, bets),
        task_queue=names.SETTLEMENT_QUEUE,
    )
    result = await casino.result(again)
    assert (result.status, result.settled, casino.ledger.signed) == (BatchStatus.CONFIRMED, 4, 1)
    assert await statuses(casino) == ALL_THE_WAY
    await casino.assert_settled_once(bets)


async def test_a_lane_that_is_not_there_is_told_for_a_while_and_not_waited_for_after_the_last_try(
    casino: Casino,
) -> None:
    handle = await casino.start_batch(some_bets(2))
    await casino.result(handle)
    types = [event.event_type async for event in handle.fetch_history_events()]
    told = types.count(EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED)
    waited = types.count(EventType.EVENT_TYPE_TIMER_STARTED)
    assert (told, waited) == (TELLING_TRIES, TELLING_TRIES - 1)


@pytest.mark.parametrize("refusal", [LaneUnavailable("Temporal does not answer"), TemporalRefused("no permission")])
@pytest.mark.parametrize("call", ["is_run", "tell_closed"])
async def test_a_lane_that_the_activity_cannot_tell_is_told_by_the_workflow(
    casino: Casino, monkeypatch: pytest.MonkeyPatch, refusal: CroupierError, call: str
) -> None:
    async def has_ended(_lane: int, _run_id: str) -> bool:
        return False

    async def refused(_lane: int, _: str) -> bool:
        raise refusal

    monkeypatch.setattr(casino, "is_run", has_ended)
    monkeypatch.setattr(casino, call, refused)
    lane = await casino.open_lane(max_bets=2)
    bets = some_bets(2)
    await casino.place_many(bets)
    await casino.idle()
    assert "settlement_closed" in await signals_of(lane)
    await casino.assert_settled_once(bets)


async def test_a_batch_whose_workflow_fails_keeps_its_slot(casino: Casino) -> None:
    await casino.open_lane(max_bets=2)
    casino.prover.gate.clear()
    bets = some_bets(2)
    await casino.place_many(bets)
    await casino.being_proven()
    await casino.client.get_workflow_handle(batch_id(LANE, bets)).terminate()
    await casino.pass_time(1)
    assert (await casino.status()).in_flight == {batch_id(LANE, bets): 2}
    casino.prover.gate.set()


async def test_a_lane_hears_once_that_a_batch_of_its_own_has_ended(casino: Casino) -> None:
    lane = await casino.open_lane(max_bets=2)
    bets = some_bets(2)
    await casino.place_many(bets)
    await casino.idle()
    types = [event.event_type async for event in lane.fetch_history_events()]
    assert types.count(EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED) == 1
    assert "settlement_closed" not in await signals_of(lane)
    await casino.assert_settled_once(bets)


async def test_a_settlement_outlives_the_lane_that_started_it(casino: Casino) -> None:
    await casino.open_lane(max_bets=2)
    casino.prover.gate.clear()
    bets = [bet("one"), bet("two", player=1)]
    await casino.place_many(bets)
    await casino.being_proven()
    await casino.batcher().terminate()
    casino.prover.gate.set()
    await casino.reaches(bets, BatchStatus.CONFIRMED)
    await casino.assert_settled_once(bets)
