"""What nobody works on any more is started again, once, and said to be; what is at work or parked is left alone."""

import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from temporalio.client import WorkflowHandle

from activities import recovering
from settlement.batches import BatchSummary, BetStatus, batch_id
from settlement.bets import Bet
from settlement.errors import ProofRejected
from settlement.lifecycle import BatchStatus
from settlement.reconciliation import Finding, FindingKind
from tests.workflow.casino import LANE, STRANGER, Casino, bet, open_casino, some_bets
from tests.workflow.test_parking import parked
from workflows import names
from workflows.batcher import Batcher, BatcherInput, BatcherSettings, BatcherState
from workflows.settlement import Settlement

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


@contextmanager
def restored(path: Path) -> Generator[None]:
    """Puts the journal back afterwards to what it was."""
    with closing(sqlite3.connect(":memory:")) as copy, closing(sqlite3.connect(path)) as journal:
        journal.backup(copy)
        yield
        copy.backup(journal)


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
