"""Where a batch counts as settled before it is final, a fork may undo it: then the same statement lands again, and is paid once."""

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecutionStatus

from settlement.batches import BetStatus
from settlement.lifecycle import BatchStatus
from tests.workflow.casino import LANE, PLAYERS, Casino, bet, some_bets
from tests.workflow.fakes import VAULT_BALANCE, Fate
from tests.workflow.test_settlement import ALL_THE_WAY, statuses
from workflows import names
from workflows.settlement import Settlement, SettlementInput, SettlementState


@pytest.fixture
def lagging(casino: Casino) -> Casino:
    """On a chain whose batches count as settled when they are confirmed, and are final only when told."""
    casino.ledger.finality_lags = True
    return casino


@pytest.mark.parametrize(("fate", "signed"), [(Fate.LANDS, 1), (Fate.EXPIRES, 2)])
async def test_a_batch_undone_by_a_fork_lands_again_and_its_landing_is_amended(
    lagging: Casino, fate: Fate, signed: int
) -> None:
    await lagging.open_lane()
    bets = some_bets(4)
    handle = await lagging.start_batch(bets)
    await lagging.reaches(bets, BatchStatus.CONFIRMED)
    (before,) = await lagging.batches()
    assert before.landing is not None

    lagging.ledger.fork(fate)
    assert lagging.ledger.payments == 0

    async def landed_again() -> bool:
        return lagging.ledger.payments == 1

    await lagging.after_time(landed_again)
    lagging.ledger.finalize()
    result = await lagging.result(handle)
    (after,) = await lagging.batches()
    assert result.landing == after.landing
    assert after.landing is not None
    assert after.landing.signature in lagging.ledger.movements
    assert after.landing.slot > before.landing.slot
    assert (lagging.ledger.signed, len(lagging.prover.proven)) == (signed, 1)
    # Told once, and nothing of it is taken back: no transition is added.
    assert after == before.model_copy(update={"landing": after.landing})
    assert await statuses(lagging) == ALL_THE_WAY
    await lagging.assert_settled_once(bets)


async def test_bets_and_lane_are_told_at_once_while_the_batch_is_watched_until_it_is_final(lagging: Casino) -> None:
    await lagging.open_lane(max_bets=2)
    bets = some_bets(2)
    await lagging.place_many(bets)
    assert not (await lagging.idle()).in_flight
    await lagging.reaches(bets, BatchStatus.CONFIRMED)
    handle = lagging.client.get_workflow_handle(f"{(await lagging.batches())[0].batch_id}")
    assert (await handle.describe()).close_time is None
    assert {(await lagging.record_of(found)).status for found in bets} == {BetStatus.SETTLED}
    lagging.ledger.finalize()
    await lagging.result(handle)
    await lagging.assert_settled_once(bets)


@pytest.mark.parametrize("fate", [Fate.EXPIRES, Fate.LANDS])
async def test_what_keeps_an_undone_batch_from_landing_again_is_shown_until_it_is_mended(
    lagging: Casino, fate: Fate
) -> None:
    """Whether the next attempt is refused before it is sent, or the old one has landed in the new fork and failed there for good."""
    await lagging.open_lane()
    bets = [bet("lost", stake=100), bet("other", player=1)]
    handle = await lagging.start_batch(bets)
    await lagging.reaches(bets, BatchStatus.CONFIRMED)
    lagging.ledger.fund_vault(LANE, PLAYERS[0], 0)
    lagging.ledger.fork(fate)
    lagging.ledger.fund_vault(LANE, PLAYERS[0], 50)

    async def shown() -> bool:
        return "VaultUncovered" in (await lagging.batch_status(bets)).waiting_for

    await lagging.soon(shown)
    assert (await lagging.batch_status(bets)).status is BatchStatus.CONFIRMED
    assert {(await lagging.record_of(found)).status for found in bets} == {BetStatus.SETTLED}
    lagging.ledger.fund_vault(LANE, PLAYERS[0], VAULT_BALANCE)

    async def landed_again() -> bool:
        return lagging.ledger.payments == 1

    await lagging.after_time(landed_again)
    lagging.ledger.finalize()
    assert (await lagging.result(handle)).settled == 2
    assert lagging.ledger.signed == 2
    assert (await lagging.batch_status(bets)).waiting_for == ""
    await lagging.assert_settled_once(bets)


async def test_a_settlement_that_continued_as_new_while_watching_tells_nobody_twice_and_goes_on_watching(
    lagging: Casino,
) -> None:
    await lagging.open_lane()
    bets = some_bets(4)
    handle = await lagging.start_batch(bets)
    await lagging.reaches(bets, BatchStatus.CONFIRMED)
    await handle.terminate()
    (batch,) = await lagging.batches()
    (proven,) = lagging.prover.proven
    carried = SettlementState(
        status=BatchStatus.CONFIRMED,
        sequence=5,
        proved_sequence=2,
        number=1,
        settling=4,
        statement=proven,
        proof=await lagging.prover.prove(proven),
        attempts=1,
        live=await lagging.journal.attempts(handle.id),
        landing=batch.landing,
        told=True,
    )
    again = await lagging.client.start_workflow(
        Settlement.run,
        SettlementInput(lane=LANE, bets=tuple(bets), carried=carried),
        id=handle.id,
        task_queue=names.SETTLEMENT_QUEUE,
    )
    lagging.ledger.fork(Fate.EXPIRES)

    async def landed_again() -> bool:
        return lagging.ledger.payments == 1

    await lagging.after_time(landed_again)
    lagging.ledger.finalize()
    result = await lagging.result(again)
    assert (result.status, result.settled, lagging.ledger.signed) == (BatchStatus.CONFIRMED, 4, 2)
    types = [event.event_type async for event in again.fetch_history_events()]
    assert EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED not in types
    await lagging.assert_settled_once(bets)


@pytest.mark.parametrize("own_bets", [False, True])
async def test_a_batch_whose_watch_was_ended_is_watched_again_by_the_run_that_is_started_anew(
    lagging: Casino, own_bets: bool
) -> None:
    await lagging.open_lane()
    bets = some_bets(4)
    handle = await lagging.start_batch(bets)
    await lagging.reaches(bets, BatchStatus.CONFIRMED)
    (before,) = await lagging.batches()
    await handle.terminate()
    lagging.ledger.fork(Fate.EXPIRES)

    request = SettlementInput(lane=LANE, bets=() if own_bets else tuple(bets), revived=True)
    again = await lagging.client.start_workflow(
        Settlement.run, request, id=handle.id, task_queue=names.SETTLEMENT_QUEUE
    )

    async def landed_again() -> bool:
        return lagging.ledger.payments == 1

    await lagging.after_time(landed_again)
    assert (await again.describe()).status is WorkflowExecutionStatus.RUNNING
    lagging.ledger.finalize()
    result = await lagging.result(again)
    (after,) = await lagging.batches()
    assert before.landing is not None
    assert after.landing is not None
    assert after.landing.slot > before.landing.slot
    assert after == before.model_copy(update={"landing": after.landing})
    assert (result.status, result.settled, result.landing) == (BatchStatus.CONFIRMED, 4, after.landing)
    assert await statuses(lagging) == ALL_THE_WAY
    assert lagging.ledger.signed == 2
    await lagging.assert_settled_once(bets)


async def test_a_batch_that_was_watched_to_its_end_meanwhile_is_only_asked_about_when_it_is_started_anew(
    lagging: Casino,
) -> None:
    await lagging.open_lane()
    bets = some_bets(4)
    handle = await lagging.start_batch(bets)
    await lagging.reaches(bets, BatchStatus.CONFIRMED)
    (before,) = await lagging.batches()
    await handle.terminate()
    lagging.ledger.finalize()
    again = await lagging.client.start_workflow(
        Settlement.run,
        SettlementInput(lane=LANE, bets=(), revived=True),
        id=handle.id,
        task_queue=names.SETTLEMENT_QUEUE,
    )
    assert (await lagging.result(again)).landing == before.landing
    assert (lagging.ledger.signed, len(lagging.prover.proven)) == (1, 1)
    assert await lagging.batches() == [before]
    await lagging.assert_settled_once(bets)


async def test_an_undone_batch_that_may_land_again_is_no_difference_between_journal_and_chain(lagging: Casino) -> None:
    await lagging.open_lane()
    bets = some_bets(4)
    handle = await lagging.start_batch(bets)
    await lagging.reaches(bets, BatchStatus.CONFIRMED)
    lagging.ledger.fork(Fate.WAITS)
    (report,) = await lagging.reconcile()
    assert (report.agreed, report.open_batches) == (True, 1)
    lagging.ledger.release()
    lagging.ledger.finalize()
    await lagging.result(handle)
    (report,) = await lagging.reconcile()
    assert (report.agreed, report.batches_compared) == (True, 1)


async def test_a_batch_that_is_final_at_once_is_not_watched(casino: Casino) -> None:
    await casino.settle(some_bets(2))
    assert casino.ledger.script.calls.count("judge") == 1
