"""A try of an activity that stalled, or whose answer was lost, can neither undo nor repeat what was done since."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, Final, TypeVar

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.claiming import Claiming, ClaimOutcome, ClaimRequest
from activities.recording import Recording, StatusRequest
from activities.submitting import ConfirmOutcome, ConfirmRequest, SignRequest, Submitting
from journal.adapter import SqlJournal
from settlement.batches import BatchSummary, BetRecord, BetStatus, SignedAttempt, Standing, Statement, Vault, batch_id
from settlement.bets import RejectionReason
from settlement.errors import CroupierError, LaneUnavailable, LedgerUnavailable, TemporalRefused
from settlement.lifecycle import BatchStatus
from tests.workflow.casino import LANE, PLAYERS, bet
from tests.workflow.fakes import FakeIntake, FakeLedger, FakeProver, Fate
from tests.workflow.stalled import Stalled

BETS: Final = (bet("first", player=0, stake=100), bet("second", player=1, stake=70))
BATCH: Final = batch_id(LANE, BETS)
HEARTBEAT: Final = timedelta(seconds=10)

T = TypeVar("T")


async def run(activity: Callable[..., Awaitable[T]], request: Any) -> T:
    """Runs one try of an activity."""
    environment = ActivityEnvironment()
    environment.info = dataclasses.replace(environment.info, heartbeat_timeout=HEARTBEAT)
    return await environment.run(activity, request)


class Bank:
    """One batch's journal and chain, and the activities between them."""

    def __init__(self, journal: SqlJournal) -> None:
        self.journal = journal
        self.ledger = FakeLedger()
        self.prover = FakeProver()
        self._claiming = Claiming(journal, self.ledger)
        self._recording = Recording(journal)
        self.intake = FakeIntake()
        self.submitting = Submitting(journal, self.ledger, self.intake)
        self.ledger.fund_house(LANE)
        for player in PLAYERS[:2]:
            self.ledger.fund_vault(LANE, player)

    async def claim(self) -> ClaimOutcome:
        request = ClaimRequest(batch_id=BATCH, lane=LANE, bets=BETS, pending_detail="again", taken=None)
        return await run(self._claiming.claim_batch, request)

    async def claimed(self) -> tuple[Statement, int]:
        """The statement of a claim that settles something, and the number of the transition that follows."""
        outcome = await self.claim()
        assert outcome.statement is not None
        return outcome.statement, outcome.sequence + 1

    async def sign(self, statement: Statement, proved_sequence: int, attempt: int = 0) -> SignedAttempt:
        request = SignRequest(
            batch_id=BATCH,
            statement=statement,
            proof=await self.prover.prove(statement),
            attempt=attempt,
            proved_sequence=proved_sequence,
        )
        return await run(self.submitting.sign_settlement, request)

    async def settle(self, started_by: str | None = None) -> ConfirmOutcome:
        """Takes the batch all the way. `started_by`: a run of the lane's Batcher."""
        statement, proved = await self.claimed()
        attempt = await self.sign(statement, proved)
        confirm = ConfirmRequest(
            batch_id=BATCH,
            statement=statement,
            live=(attempt,),
            send=True,
            submitted_sequence=proved + 1,
            confirmed_sequence=proved + 2,
            started_by=started_by,
        )
        outcome = await run(self.submitting.confirm_settlement, confirm)
        assert outcome.verdict.standing is Standing.SETTLED
        return outcome

    async def record_status(self, sequence: int, status: BatchStatus) -> int:
        request = StatusRequest(batch_id=BATCH, sequence=sequence, status=status, detail="why", alert=False)
        return await run(self._recording.record_status, request)

    async def held(self) -> tuple[BatchSummary | None, list[BetRecord], list[SignedAttempt], int]:
        """All that the journal holds of the batch, and how many rejections."""
        journal = self.journal
        return (
            await journal.batch(BATCH),
            await journal.bets_of(BATCH),
            await journal.attempts(BATCH),
            len(await journal.rejections(100)),
        )

    async def bet_statuses(self) -> list[BetStatus]:
        return [record.status for record in await self.journal.bets_of(BATCH)]

    async def statuses(self) -> list[BatchStatus]:
        batch = await self.journal.batch(BATCH)
        assert batch is not None
        assert [step.sequence for step in batch.transitions] == list(range(len(batch.transitions)))
        return [step.status for step in batch.transitions]


async def failure(of: Awaitable[object]) -> tuple[str | None, bool]:
    """The domain error that an activity fails with, and whether Temporal may try it again."""
    with pytest.raises(ApplicationError) as raised:
        await of
    return raised.value.type, not raised.value.non_retryable


async def test_a_stalled_claim_that_saw_an_empty_vault_cannot_eject_after_another_try_went_on(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank.ledger.fund_vault(LANE, PLAYERS[0], 0)
    stalled = Stalled(monkeypatch, bank.ledger, "judge")
    first_try = asyncio.create_task(bank.claim())
    await stalled.reached()
    bank.ledger.fund_vault(LANE, PLAYERS[0])
    statement, _ = await bank.claimed()
    assert len(statement.entries) == 2
    before = await bank.held()

    stalled.resume()
    assert await failure(first_try) == ("JournalConflict", False)
    assert await bank.held() == before
    assert await bank.bet_statuses() == [BetStatus.CLAIMED] * 2
    assert await bank.statuses() == [BatchStatus.PENDING, BatchStatus.PROVING]


async def test_a_stalled_claim_that_saw_no_vault_cannot_eject_after_another_try_went_on(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = bank.ledger.indices.pop((LANE, PLAYERS[1]))
    stalled = Stalled(monkeypatch, bank.journal, "attempts")
    first_try = asyncio.create_task(bank.claim())
    await stalled.reached()
    bank.ledger.indices[LANE, PLAYERS[1]] = index
    statement, proved = await bank.claimed()
    await bank.record_status(proved, BatchStatus.FAILED)
    before = await bank.held()

    stalled.resume()
    assert await failure(first_try) == ("JournalConflict", False)
    assert await bank.held() == before
    assert len(statement.entries) == 2


async def test_a_stalled_claim_cannot_eject_from_under_an_attempt_that_was_signed_since_it_judged(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    statement, proved = await bank.claimed()
    signing = Stalled(monkeypatch, bank.journal, "record_transition")
    other_try = asyncio.create_task(bank.sign(statement, proved))
    await signing.reached()
    # A try of the claim that had stalled before its first step wakes, and finds a loss that is not covered just now.
    bank.ledger.fund_vault(LANE, PLAYERS[0], 0)
    judging = Stalled(monkeypatch, bank.ledger, "judge")
    stale_try = asyncio.create_task(bank.claim())
    await judging.reached()
    bank.ledger.fund_vault(LANE, PLAYERS[0])
    signing.resume()
    attempt = await other_try

    judging.resume()
    assert await failure(stale_try) == ("JournalConflict", False)
    assert await bank.bet_statuses() == [BetStatus.CLAIMED] * 2
    assert await bank.journal.attempts(BATCH) == [attempt]


async def test_a_claim_from_under_which_another_try_ejects_a_bet_is_tried_again(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank.ledger.fund_vault(LANE, PLAYERS[0], 0)
    first_stalled = Stalled(monkeypatch, bank.ledger, "judge")
    first_try = asyncio.create_task(bank.claim())
    await first_stalled.reached()
    bank.ledger.fund_vault(LANE, PLAYERS[0])
    second_stalled = Stalled(monkeypatch, bank.ledger, "vaults")
    second_try = asyncio.create_task(bank.claim())
    await second_stalled.reached()

    first_stalled.resume()
    assert [refused.bet_id for refused in (await first_try).refused] == ["first"]
    second_stalled.resume()
    assert await failure(second_try) == ("JournalUnavailable", True)
    statement, proved = await bank.claimed()
    assert len(statement.entries) == 1
    assert (await bank.sign(statement, proved)).bets_root == statement.bets_root


async def test_a_stalled_signature_is_not_kept_once_a_bet_of_its_statement_was_ejected(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, proved = await bank.claimed()
    stalled = Stalled(monkeypatch, bank.ledger, "sign")
    signing = asyncio.create_task(bank.sign(old, proved))
    await stalled.reached()
    bank.ledger.fund_vault(LANE, PLAYERS[0], 0)
    new, proved_again = await bank.claimed()
    assert await bank.bet_statuses() == [BetStatus.REJECTED, BetStatus.CLAIMED]
    before = await bank.held()

    stalled.resume()
    assert await failure(signing) == ("BatchUnknown", False)
    assert await bank.held() == before
    attempt = await bank.sign(new, proved_again)
    assert (attempt.attempt, attempt.bets_root) == (0, new.bets_root)
    assert await bank.journal.attempts(BATCH) == [attempt]


async def test_a_statement_with_an_ejected_bet_is_neither_kept_nor_signed(bank: Bank) -> None:
    old, _ = await bank.claimed()
    bank.ledger.fund_vault(LANE, PLAYERS[0], 0)
    _, proved = await bank.claimed()
    signed = bank.ledger.signed
    assert await failure(bank.sign(old, proved)) == ("JournalConflict", False)
    assert bank.ledger.signed == signed
    assert await bank.journal.attempts(BATCH) == []
    batch = await bank.journal.batch(BATCH)
    assert batch is not None
    assert batch.bets_root is None


async def test_an_attempt_whose_answer_was_lost_is_answered_again_for_the_same_statement(bank: Bank) -> None:
    statement, proved = await bank.claimed()
    first = await bank.sign(statement, proved)
    assert await bank.sign(statement, proved) == first
    assert bank.ledger.signed == 1


async def test_an_attempt_for_another_root_is_not_taken_for_an_answer_that_was_lost(bank: Bank) -> None:
    bank.ledger.fates.append(Fate.EXPIRES)
    old, proved = await bank.claimed()
    lost = await bank.sign(old, proved)
    bank.ledger.fund_vault(LANE, PLAYERS[0], 0)
    new, proved_again = await bank.claimed()
    assert new.bets_root != old.bets_root

    # The workflow never heard of the lost attempt, and asks for its first.
    attempt = await bank.sign(new, proved_again, attempt=0)
    assert (attempt.attempt, attempt.bets_root) == (1, new.bets_root)
    assert await bank.journal.attempts(BATCH) == [lost, attempt]


async def test_a_vault_that_a_batch_was_signed_with_is_waited_for_and_its_bets_are_not_ejected(bank: Bank) -> None:
    statement, proved = await bank.claimed()
    await bank.sign(statement, proved)
    index = bank.ledger.indices.pop((LANE, PLAYERS[1]))
    assert await failure(bank.claim()) == ("LedgerUnavailable", True)
    assert await bank.bet_statuses() == [BetStatus.CLAIMED] * 2
    assert await bank.journal.rejections(10) == []

    bank.ledger.indices[LANE, PLAYERS[1]] = index
    assert await bank.claimed() == (statement, 5)


@pytest.mark.parametrize("lacking", ["vault", "cover"])
async def test_a_bet_is_refused_only_by_what_a_quorum_of_nodes_shows(
    bank: Bank, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    shown_by_all = bank.ledger.vaults

    async def lagging(lane: int, players: Sequence[str], *, by_quorum: bool = False) -> dict[str, Vault]:
        vaults = await shown_by_all(lane, players, by_quorum=by_quorum)
        if by_quorum:
            return vaults
        if lacking == "vault":
            return {player: vault for player, vault in vaults.items() if player != PLAYERS[0]}
        return {player: vault.model_copy(update={"available": 0}) for player, vault in vaults.items()}

    monkeypatch.setattr(bank.ledger, "vaults", lagging)
    bank.ledger.script.fail("vaults by quorum", LedgerUnavailable("one node of two"))
    assert await failure(bank.claim()) == ("LedgerUnavailable", True)
    statement, _ = await bank.claimed()
    assert len(statement.entries) == len(BETS)
    assert await bank.bet_statuses() == [BetStatus.CLAIMED] * 2


async def test_a_vault_that_no_attempt_was_signed_with_is_not_waited_for(bank: Bank) -> None:
    del bank.ledger.indices[LANE, PLAYERS[1]]
    outcome = await bank.claim()
    assert [refused.reason for refused in outcome.refused] == [RejectionReason.NO_VAULT]
    assert outcome.settling == 1


async def test_a_status_is_recorded_after_all_that_the_journal_has_and_only_once(bank: Bank) -> None:
    await bank.claimed()
    # The claim's answer was lost, so the workflow counts from where it was before.
    assert await bank.record_status(0, BatchStatus.FAILED) == 2
    before = await bank.held()
    for sequence in (0, 1, 2, 3):
        assert await bank.record_status(sequence, BatchStatus.FAILED) == 2
    assert await bank.held() == before
    assert await bank.statuses() == [BatchStatus.PENDING, BatchStatus.PROVING, BatchStatus.FAILED]

    # What cannot follow is not written, and waited for by nobody: a stalled try has put the batch back.
    await bank.claim()
    assert await bank.record_status(5, BatchStatus.SUBMITTED) == 4
    assert (await bank.statuses())[-2:] == [BatchStatus.PENDING, BatchStatus.PROVING]
    assert await bank.record_status(5, BatchStatus.FAILED) == 5

    # A journal restored from a backup is behind: the workflow's count is let be.
    _, following = await bank.claimed()
    assert following == 8
    assert await bank.record_status(12, BatchStatus.FAILED) == 12


@pytest.mark.parametrize("started_by", [None, "a run that has ended since"])
async def test_the_lane_hears_of_a_batch_that_has_landed(bank: Bank, started_by: str | None) -> None:
    assert (await bank.settle(started_by)).lane_told
    assert bank.intake.closed == [(LANE, BATCH)]


async def test_a_lane_is_not_told_what_it_hears_by_itself_at_once(bank: Bank) -> None:
    assert (await bank.settle(started_by=bank.intake.run_id)).lane_told
    assert bank.intake.closed == []


async def test_a_lane_is_told_of_a_batch_that_is_watched_on(bank: Bank) -> None:
    bank.ledger.finality_lags = True
    assert (await bank.settle(started_by=bank.intake.run_id)).lane_told
    assert bank.intake.closed == [(LANE, BATCH)]


@pytest.mark.parametrize("refusal", [LaneUnavailable("Temporal does not answer"), TemporalRefused("no permission")])
async def test_a_batch_has_landed_whether_or_not_its_lane_hears_of_it(bank: Bank, refusal: CroupierError) -> None:
    bank.intake.refusal = refusal
    assert not (await bank.settle()).lane_told
    assert (await bank.statuses())[-1] is BatchStatus.CONFIRMED


async def test_a_confirmed_batch_is_never_called_failed(bank: Bank) -> None:
    await bank.settle()
    before = await bank.held()
    assert await bank.record_status(5, BatchStatus.FAILED) == 4
    assert await bank.held() == before


async def test_a_claim_of_a_confirmed_batch_answers_its_landing_and_changes_nothing(bank: Bank) -> None:
    await bank.settle()
    (settled,) = bank.prover.proven
    before, calls = await bank.held(), list(bank.ledger.script.calls)
    assert before[0] is not None
    # Whatever became of the vaults since.
    bank.ledger.fund_vault(LANE, PLAYERS[0], 0)
    del bank.ledger.indices[LANE, PLAYERS[1]]
    outcome = await bank.claim()
    assert outcome.landing == before[0].landing is not None
    assert outcome.statement == settled
    assert (outcome.number, outcome.settling, outcome.waiting_for) == (1, 2, "")
    assert outcome.sequence == before[0].transitions[-1].sequence == 4
    assert await bank.held() == before
    assert bank.ledger.script.calls == calls
    assert bank.ledger.payments == 1
