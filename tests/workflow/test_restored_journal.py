"""Batches on their way while their journal is restored from an older copy: each is settled once, and no new one too early."""

from pathlib import Path

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle

from settlement.batches import BetStatus, batch_id
from settlement.bets import RejectionReason
from settlement.lifecycle import BatchStatus
from tests.workflow.casino import LANE, STRANGER, Casino, bet, some_bets
from tests.workflow.copies import Copy
from tests.workflow.fakes import Fate
from tests.workflow.stalled import Stalled
from workflows import names
from workflows.settlement import Settlement, SettlementInput, SettlementResult


async def revive(casino: Casino, batch: str, request: SettlementInput) -> WorkflowHandle[Settlement, SettlementResult]:
    return await casino.client.start_workflow(Settlement.run, request, id=batch, task_queue=names.SETTLEMENT_QUEUE)


async def test_a_journal_set_back_under_a_running_lane_gets_its_batches_back_and_no_bet_is_settled_twice(
    casino: Casino, journal_path: Path
) -> None:
    await casino.open_lane()
    empty = Copy(journal_path)
    first = [*some_bets(3, "first"), bet("stranger", player=STRANGER)]
    settled = await casino.settle(first)
    # It shares a bet with the first, one of its bets is refused, and the rest is on its way.
    own = some_bets(3, "own")
    second = [first[1], bet("homeless", player=STRANGER), *own]
    casino.ledger.fates.append(Fate.WAITS)
    on_its_way = await casino.start_batch(second)
    await casino.reaches(second, BatchStatus.SUBMITTED)
    (attempt,) = await casino.journal.attempts(batch_id(LANE, second))

    empty.restore()

    async def attempts_are_back() -> bool:
        batch = await casino.journal.batch(batch_id(LANE, second))
        return (
            batch is not None
            and batch.status is BatchStatus.SUBMITTED
            and await casino.journal.attempts(batch.batch_id) == [attempt]
        )

    await casino.after_time(attempts_are_back)
    casino.ledger.release()
    result = await casino.result(on_its_way)
    assert (result.status, result.number, result.settled) == (BatchStatus.CONFIRMED, 2, 3)
    assert (result.refused, result.duplicates) == (1, 1)
    assert (casino.ledger.signed, len(casino.prover.proven)) == (2, 2)
    homeless = await casino.record_of(second[1])
    assert (homeless.status, homeless.reason) == (BetStatus.REJECTED, RejectionReason.NO_VAULT)

    # Sent again by somebody whom the lane no longer knows: settled on chain, unknown to the journal.
    again = await casino.start_batch([first[0], bet("new", player=3)])
    status = [first[0], bet("new", player=3)]
    await casino.reaches(status, BatchStatus.FAILED)
    assert "JournalBehind: the chain holds batch 1" in (await casino.batch_status(status)).transitions[-1].detail
    # Had it a vault by now, its bet would be another batch's: this one was settled without it.
    casino.ledger.fund_vault(LANE, STRANGER)
    known = SettlementInput(
        lane=LANE,
        bets=tuple(first),
        revived=True,
        number=1,
        refused=settled.refused_bets,
        duplicates=settled.duplicate_bets,
    )
    back = await revive(casino, batch_id(LANE, first), known)
    assert (await casino.result(back)).status is BatchStatus.CONFIRMED
    ended = await casino.result(again)
    assert (ended.number, ended.settled, ended.duplicates) == (3, 1, 1)
    assert casino.ledger.payments == 3
    await casino.assert_settled_once([*first[:3], *own, status[1]])


async def test_a_batch_whose_workflow_is_gone_is_revived_by_the_journal_and_not_signed_again(casino: Casino) -> None:
    await casino.open_lane()
    bets = some_bets(4)
    casino.ledger.fates.append(Fate.WAITS)
    handle = await casino.start_batch(bets)
    await casino.reaches(bets, BatchStatus.SUBMITTED)
    await handle.terminate()

    revived = await revive(casino, handle.id, SettlementInput(lane=LANE, bets=(), revived=True))
    await casino.reaches(bets, BatchStatus.SUBMITTED)
    assert (await casino.batch_status(bets)).bets == 4
    casino.ledger.release()
    assert (await casino.result(revived)).settled == 4
    assert (casino.ledger.signed, casino.ledger.payments) == (1, 1)
    await casino.assert_settled_once(bets)


async def test_a_journal_set_back_between_claim_and_submission_needs_nobody(
    casino: Casino, journal_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await casino.open_lane()
    bets = some_bets(3)
    casino.prover.gate.clear()
    handle = await casino.start_batch(bets)
    await casino.being_proven()
    proving = Copy(journal_path)
    sent = Stalled(monkeypatch, casino.ledger, "broadcast")
    casino.prover.gate.set()
    await sent.reached()
    proving.restore()
    sent.resume()
    assert (await casino.result(handle)).status is BatchStatus.CONFIRMED
    entered = [step.status for step in (await casino.batch_status(bets)).transitions]
    assert BatchStatus.FAILED not in entered
    assert (casino.ledger.signed, len(casino.prover.proven)) == (1, 1)
    await casino.assert_settled_once(bets)


async def test_a_batch_that_no_journal_holds_any_more_is_not_revived_without_its_bets(casino: Casino) -> None:
    revived = await revive(casino, "settlement-0-unknown", SettlementInput(lane=LANE, bets=(), revived=True))
    with pytest.raises(WorkflowFailureError) as failure:
        await casino.result(revived)
    assert "BatchUnknown" in repr(failure.value.cause)
    assert (await revived.describe()).status is WorkflowExecutionStatus.FAILED
    assert await casino.batches() == []
