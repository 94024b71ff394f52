"""What nobody works on any more is started again, once, and said to be; what is at work or parked is left alone."""

import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from temporalio.client import WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from activities import recovering
from client.answers import started_with, temporal_errors
from client.intake import TemporalIntake
from client.settlements import TemporalSettlements
from settlement.batches import BatchSummary, BetStatus, DuplicateBet, batch_id
from settlement.bets import Bet
from settlement.errors import CroupierError, LaneUnavailable, ProofRejected, TemporalRefused
from settlement.lanes import BatcherState
from settlement.lifecycle import BatchStatus
from settlement.ports import Execution, Revival
from settlement.reconciliation import Finding, FindingKind
from tests.workflow.casino import LANE, PLAYERS, SETTINGS, STRANGER, Casino, bet, open_casino, some_bets
from tests.workflow.fakes import VAULT_BALANCE, Fate
from tests.workflow.test_parking import parked
from workflows import names
from workflows.batcher import Batcher, BatcherInput, BatcherSettings
from workflows.settlement import Settlement, SettlementInput

BETS = some_bets(6)


def told(findings: tuple[Finding, ...]) -> list[tuple[FindingKind, str]]:
    return [(finding.kind, finding.subject) for finding in findings]


async def repaired(casino: Casino) -> list[tuple[FindingKind, str]]:
    """What a reconciliation finds."""
    (report,) = await casino.reconcile()
    return told(report.findings)


async def settled(casino: Casino, bets: list[Bet]) -> None:
    """Waits until the batch's latest run has ended well."""
    result = await casino.result(casino.client.get_workflow_handle_for(Settlement.run, batch_id(LANE, bets)))
    assert result.status is BatchStatus.CONFIRMED


async def terminated_while_proving(casino: Casino, bets: list[Bet]) -> None:
    """No time is skipped any more afterwards: the test server waits for the activity to be over."""
    casino.prover.gate.clear()
    handle = await casino.start_batch(bets)
    await casino.being_proven()
    await handle.terminate()
    casino.prover.gate.set()


async def lane_with_slot(casino: Casino, *batch_ids: str) -> WorkflowHandle[Batcher, None]:
    """A lane for which these batches are in flight."""
    state = BatcherState(opened=True, in_flight=dict.fromkeys(batch_ids, 2))
    return await casino.client.start_workflow(
        Batcher.run,
        BatcherInput(lane=LANE, settings=BatcherSettings(max_bets=len(BETS)), state=state),
        id=names.batcher_id(LANE),
        task_queue=names.SETTLEMENT_QUEUE,
    )


async def test_a_settlement_terminated_midway_is_started_again_and_settled_once(casino: Casino) -> None:
    await lane_with_slot(casino)
    await terminated_while_proving(casino, BETS)
    assert await repaired(casino) == [(FindingKind.RESTARTED, batch_id(LANE, BETS))]
    await settled(casino, BETS)
    await casino.assert_settled_once(BETS)
    assert await repaired(casino) == []


async def test_a_settlement_that_works_or_is_parked_is_left_alone(casino: Casino) -> None:
    casino.prover.script.fail("prove", ProofRejected("the proof does not verify"))
    handle = await casino.start_batch(BETS)
    await parked(casino)
    first = (await handle.describe()).run_id
    assert await repaired(casino) == []
    assert (await handle.describe()).run_id == first
    await handle.signal(Settlement.retry)
    await casino.result(handle)


async def test_a_batch_that_ends_well_between_two_looks_is_not_started_again(
    casino: Casino, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lane_with_slot(casino)
    casino.prover.gate.clear()
    handle = await casino.start_batch(BETS)
    await casino.being_proven()
    unsettled = casino.journal.unsettled_batches

    async def and_then_it_ends(lane: int, player: str | None, limit: int) -> list[BatchSummary]:
        found = await unsettled(lane, player, limit)
        casino.prover.gate.set()
        await casino.result(handle)
        return found

    monkeypatch.setattr(casino.journal, "unsettled_batches", and_then_it_ends)
    (report,) = await casino.reconcile()
    assert report.agreed
    assert (await handle.describe()).run_id == handle.first_execution_run_id


async def test_a_settlement_terminated_before_its_claim_is_started_again_for_the_slot_that_it_held(
    casino: Casino,
) -> None:
    claimed = batch_id(LANE, BETS)
    async with casino.locked_journal():
        handle = await casino.start_batch(BETS)
        await handle.terminate()
    assert await casino.batches() == []
    await lane_with_slot(casino, claimed)
    assert await repaired(casino) == [(FindingKind.RESTARTED, claimed)]
    await settled(casino, BETS)
    await casino.assert_settled_once(BETS)
    assert (await casino.idle()).in_flight == {}


async def test_a_slot_of_a_batch_that_is_done_is_freed(casino: Casino) -> None:
    await casino.settle(BETS)
    await lane_with_slot(casino, batch_id(LANE, BETS))
    assert await repaired(casino) == [(FindingKind.SLOT_FREED, batch_id(LANE, BETS))]
    assert (await casino.idle()).in_flight == {}
    assert await repaired(casino) == []


async def test_a_batch_that_ended_before_its_refusals_were_written_down_is_ended(casino: Casino) -> None:
    homeless = [bet("homeless", player=STRANGER)]
    handle = await casino.start_batch(homeless)

    async def rejected() -> bool:
        record = await casino.journal.bet("homeless")
        return record is not None and record.status is BetStatus.REJECTED

    await casino.soon(rejected)
    await handle.terminate()
    await lane_with_slot(casino, batch_id(LANE, homeless))
    assert (await repaired(casino))[0][1] == batch_id(LANE, homeless)
    assert (await casino.idle()).in_flight == {}
    (batch,) = await casino.batches()
    assert batch.status is BatchStatus.FAILED


async def test_a_batch_in_flight_that_nobody_knows_is_said_to_be_lost(
    casino: Casino, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovering, "SECOND_LOOK_SECONDS", 0.01)
    await lane_with_slot(casino, "settlement-0-nobody")
    assert await repaired(casino) == [(FindingKind.LOST_BATCH, "settlement-0-nobody")]
    assert list((await casino.status()).in_flight) == ["settlement-0-nobody"]


async def test_batches_of_a_journal_whose_temporal_was_lost_are_settled(journal_path: Path) -> None:
    landed, claimed = some_bets(3, "landed"), some_bets(3, "claimed")
    async with open_casino(journal_path, skips_time=False) as first:
        first.prover.gate.clear()
        for bets in (landed, claimed):
            await first.start_batch(bets)

        async def proving() -> bool:
            return len(first.prover.waiting) == 2

        await first.soon(proving)
        first.ledger.settle_by_rival(next(waits for waits in first.prover.waiting if waits.number == 1))
    async with open_casino(journal_path, skips_time=False, ledger=first.ledger) as casino:
        await casino.open_lane()
        numbers = {batch.number: batch.batch_id for batch in await casino.batches()}
        assert await repaired(casino) == [(FindingKind.RESTARTED, numbers[number]) for number in (1, 2)]
        for bets in (landed, claimed):
            await settled(casino, bets)
        await casino.assert_settled_once([*landed, *claimed])
        assert await repaired(casino) == []


async def test_a_lane_terminated_with_queued_bets_is_started_again_though_nobody_places_a_bet(
    real_time_casino: Casino,
) -> None:
    casino = real_time_casino
    lane = await casino.open_lane()
    await casino.place_many(BETS)
    await lane.terminate()
    casino.intake = TemporalIntake(casino.client, SETTINGS.model_copy(update={"window_seconds": 0.1}))
    assert await repaired(casino) == [(FindingKind.RESTARTED, f"the Batcher of lane {LANE}")]
    await casino.idle()
    await casino.assert_settled_once(BETS)
    assert await repaired(casino) == []


async def test_a_lane_that_cannot_be_started_again_and_its_slots_hold_nothing_up(
    casino: Casino, monkeypatch: pytest.MonkeyPatch
) -> None:
    await casino.settle(BETS)
    lane = await lane_with_slot(casino, batch_id(LANE, BETS))
    await lane.terminate()

    async def refused(_: int) -> bool:
        raise TemporalRefused("permission denied")

    monkeypatch.setattr(casino, "restart_batcher", refused)
    assert await repaired(casino) == [(FindingKind.NOT_RESTARTED, f"the Batcher of lane {LANE}")]
    assert await TemporalSettlements(casino.client).in_flight(LANE) == []
    assert not await casino.tell_closed(LANE, batch_id(LANE, BETS))


async def test_a_batch_that_cannot_be_started_again_keeps_no_other_from_it(
    casino: Casino, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lane_with_slot(casino)
    other = some_bets(3, "other")
    for bets in (BETS, other):
        await terminated_while_proving(casino, bets)
    revive = TemporalSettlements.revive

    async def first_refused(self: TemporalSettlements, lane: int, revived: str, number: int | None) -> Revival:
        if revived == batch_id(LANE, BETS):
            raise LaneUnavailable("no worker has replayed it in time")
        return await revive(self, lane, revived, number)

    with monkeypatch.context() as patch:
        patch.setattr(TemporalSettlements, "revive", first_refused)
        assert await repaired(casino) == [
            (FindingKind.NOT_RESTARTED, batch_id(LANE, BETS)),
            (FindingKind.RESTARTED, batch_id(LANE, other)),
        ]
    assert (await repaired(casino))[0] == (FindingKind.RESTARTED, batch_id(LANE, BETS))
    for bets in (BETS, other):
        await settled(casino, bets)


async def test_a_batch_with_a_damaged_row_keeps_no_other_from_being_started_again(casino: Casino) -> None:
    await lane_with_slot(casino)
    casino.prover.script.fail("prove", ProofRejected("the proof does not verify"))
    handle = await casino.start_batch(BETS)
    await parked(casino)
    await handle.terminate()
    other = some_bets(3, "other")
    await terminated_while_proving(casino, other)
    with closing(sqlite3.connect(casino.journal_path)) as journal, journal:
        journal.execute("UPDATE bets SET outcome = 'edge' WHERE bet_id = 'bet-1'")
    found = await repaired(casino)
    assert found == [
        (FindingKind.RESTARTED, batch_id(LANE, other)),
        (FindingKind.JOURNAL_INCONSISTENT, batch_id(LANE, BETS)),
    ]
    await settled(casino, other)


async def test_a_workflow_that_turns_out_to_run_is_not_said_to_be_started_again(
    casino: Casino, monkeypatch: pytest.MonkeyPatch
) -> None:
    casino.prover.gate.clear()
    handle = await casino.start_batch(BETS)
    await casino.being_proven()

    async def outdated(self: TemporalSettlements, asked: str) -> Execution:  # noqa: ARG001
        return Execution.ENDED

    monkeypatch.setattr(TemporalSettlements, "execution", outdated)
    assert await repaired(casino) == []
    assert (await handle.describe()).run_id == handle.first_execution_run_id
    casino.prover.gate.set()


async def test_a_settled_batch_that_a_fork_undid_while_nobody_watched_it_lands_again(
    casino: Casino,
) -> None:
    casino.ledger.finality_lags = True
    await lane_with_slot(casino)
    handle = await casino.start_batch(BETS)
    await casino.reaches(BETS, BatchStatus.CONFIRMED)
    await handle.terminate()
    assert await repaired(casino) == []
    casino.ledger.fork(Fate.EXPIRES)
    assert (await repaired(casino))[0] == (FindingKind.RESTARTED, batch_id(LANE, BETS))

    async def landed_again() -> bool:
        return casino.ledger.payments == 1

    await casino.soon(landed_again)
    casino.ledger.finalize()
    await settled(casino, BETS)
    await casino.assert_settled_once(BETS)
    assert await repaired(casino) == []


async def test_a_batch_that_was_seen_final_is_not_started_again_when_its_record_is_gone(casino: Casino) -> None:
    await casino.settle(BETS)
    casino.ledger.records.clear()
    assert await repaired(casino) == [(FindingKind.NOT_ON_CHAIN, batch_id(LANE, BETS))]


@contextmanager
def restored(path: Path) -> Generator[None]:
    """Puts the journal back afterwards to what it was."""
    with closing(sqlite3.connect(":memory:")) as copy, closing(sqlite3.connect(path)) as journal:
        journal.backup(copy)
        yield
        copy.backup(journal)


async def test_bets_refused_after_the_journals_copy_was_taken_are_left_out_again(casino: Casino) -> None:
    await lane_with_slot(casino)
    bets = [bet("uncovered", player=5, stake=VAULT_BALANCE), *some_bets(3)]
    casino.prover.gate.clear()
    handle = await casino.start_batch(bets)
    await casino.being_proven()
    with restored(casino.journal_path):
        casino.ledger.fund_vault(LANE, PLAYERS[5], VAULT_BALANCE - 1)
        casino.prover.gate.set()
        assert (await casino.result(handle)).refused == 1
    assert (await casino.record_of(bets[0])).status is BetStatus.CLAIMED
    assert (await repaired(casino))[0] == (FindingKind.RESTARTED, batch_id(LANE, bets))
    await settled(casino, bets)
    assert (await casino.record_of(bets[0])).status is BetStatus.REJECTED
    await casino.assert_settled_once(bets[1:])
    assert await repaired(casino) == []


async def test_a_terminated_batch_that_the_journal_has_lost_leaves_out_what_it_had_refused(
    real_time_casino: Casino,
) -> None:
    casino = real_time_casino
    bets = [bet("uncovered", player=5, stake=VAULT_BALANCE + 1), *some_bets(5)]
    await lane_with_slot(casino)
    casino.ledger.fates.append(Fate.WAITS)
    with restored(casino.journal_path):
        await casino.place_many(bets)

        async def submitted() -> bool:
            return [batch.status for batch in await casino.batches()] == [BatchStatus.SUBMITTED]

        await casino.soon(submitted)
        await casino.client.get_workflow_handle(batch_id(LANE, bets)).terminate()
        casino.ledger.release()
        casino.ledger.fund_vault(LANE, PLAYERS[5], VAULT_BALANCE + 1)
    assert await casino.batches() == []
    assert (await repaired(casino))[0] == (FindingKind.RESTARTED, batch_id(LANE, bets))
    await settled(casino, bets)
    assert (await casino.record_of(bets[0])).status is BetStatus.REJECTED
    await casino.assert_settled_once(bets[1:])


async def test_a_batch_that_only_its_lane_knows_leaves_out_what_another_had_before(casino: Casino) -> None:
    taken, bets = some_bets(1), some_bets(4)
    await casino.settle(taken)
    await terminated_while_proving(casino, bets)
    settlements = TemporalSettlements(casino.client)
    casino.prover.gate.clear()
    assert await settlements.start_again(LANE, batch_id(LANE, bets)) is Revival.STARTED
    handle = casino.client.get_workflow_handle(batch_id(LANE, bets))
    told = await started_with(casino.client, handle, SettlementInput)
    assert told is not None
    assert told.duplicates == (DuplicateBet(bet_id=taken[0].bet_id, batch_id=batch_id(LANE, taken)),)
    # Ended before any worker has told it anything, it tells what it was told.
    await handle.terminate()
    casino.prover.gate.set()


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (RPCStatusCode.UNAVAILABLE, LaneUnavailable),
        (RPCStatusCode.DEADLINE_EXCEEDED, LaneUnavailable),
        (RPCStatusCode.PERMISSION_DENIED, TemporalRefused),
        (RPCStatusCode.INVALID_ARGUMENT, TemporalRefused),
    ],
)
def test_only_what_may_pass_is_asked_again(said: RPCStatusCode, meant: type[CroupierError]) -> None:
    with pytest.raises(meant) as raised, temporal_errors("settlements", TemporalRefused):
        raise RPCError("no", said, b"")
    assert raised.value.retryable is (meant is LaneUnavailable)


async def test_batches_that_a_journal_restored_from_an_older_copy_has_lost_are_put_back(
    real_time_casino: Casino,
) -> None:
    casino = real_time_casino
    kept, lost, unclaimed = some_bets(3, "kept"), some_bets(6, "lost"), some_bets(6, "unclaimed")
    await lane_with_slot(casino)
    await casino.settle(kept)
    with restored(casino.journal_path):
        await casino.place_many(lost)
        await settled(casino, lost)
        casino.prover.gate.clear()
        await casino.place_many(unclaimed)
        await casino.being_proven()
        await casino.client.get_workflow_handle(batch_id(LANE, unclaimed)).terminate()
        casino.prover.gate.set()
    assert [batch.number for batch in await casino.batches()] == [1]

    # The record's batch comes first; then nothing is behind the chain any more.
    restarted = [(FindingKind.RESTARTED, batch_id(LANE, bets)) for bets in (lost, unclaimed)]
    found = await repaired(casino)
    assert [finding for finding in found if finding[0] is FindingKind.RESTARTED] == restarted
    for bets in (lost, unclaimed):
        await settled(casino, bets)
    await casino.assert_settled_once([*kept, *lost, *unclaimed])
    assert [batch.number for batch in await casino.batches()] == [1, 2, 3]
    assert casino.ledger.payments == 3
    assert await repaired(casino) == []
