"""Activities on a journal that was restored from an older copy: it gets back what history knows, and nothing is settled twice."""

import sqlite3
from collections.abc import AsyncGenerator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from activities.claiming import Claiming, ClaimOutcome, ClaimRequest, Signed
from activities.submitting import ConfirmRequest, SignRequest
from journal.adapter import SqlJournal
from journal.migrate import upgrade
from settlement.batches import (
    BetStatus,
    Claim,
    DuplicateBet,
    RefusedBet,
    SignedAttempt,
    Standing,
    Statement,
    Verdict,
    batch_id,
)
from settlement.bets import Bet, RejectionReason
from settlement.lifecycle import BatchStatus
from tests.activities.test_fencing import BATCH, BETS, Bank, failure, run
from tests.journal.samples import step
from tests.workflow.casino import LANE, STRANGER, bet
from tests.workflow.copies import Copy
from tests.workflow.fakes import Fate


class Restored(Bank):
    """A bank whose journal can be set back to an older copy; `older`: one from before everything."""

    def __init__(self, journal: SqlJournal, path: Path) -> None:
        super().__init__(journal)
        self.path = path
        self.older = Copy(path)

    async def ask(self, bets: Sequence[Bet] = BETS, **known: object) -> ClaimOutcome:
        request = ClaimRequest.model_validate(
            {"batch_id": BATCH, "lane": LANE, "bets": tuple(bets), "pending_detail": "", "taken": None, **known}
        )
        return await run(Claiming(self.journal, self.ledger).claim_batch, request)

    async def signed(self) -> Signed:
        """The batch's first attempt, kept by the journal, its bytes on their way."""
        statement, proved = await self.claimed()
        attempt = await self.sign(statement, proved)
        await self.ledger.broadcast(attempt)
        return Signed(statement=statement, attempts=(attempt,))

    async def confirm(self, signed: Signed) -> Verdict:
        request = ConfirmRequest(
            batch_id=BATCH, statement=signed.statement, confirmed_sequence=9, live=tuple(signed.attempts)
        )
        return (await run(self.submitting.confirm_settlement, request)).verdict

    async def sign_again(self, statement: Statement, attempt: int, live: Sequence[SignedAttempt] = ()) -> SignedAttempt:
        request = SignRequest(
            batch_id=BATCH,
            statement=statement,
            proof=await self.prover.prove(statement),
            attempt=attempt,
            proved_sequence=None,
            live=tuple(live),
        )
        return await run(self.submitting.sign_settlement, request)

    async def claim_other(self, bets: Sequence[Bet], number: int) -> str:
        """Lets another batch have `bets` meanwhile."""
        other = batch_id(LANE, bets)
        await self.journal.claim(
            Claim(batch_id=other, lane=LANE, bets=tuple(bets), transition=step(0, BatchStatus.PENDING), number=number)
        )
        return other


@pytest.fixture
async def bank(tmp_path: Path) -> AsyncGenerator[Restored, None]:
    path = tmp_path / "journal.db"
    await upgrade(f"sqlite:///{path}")
    async with SqlJournal.open(f"sqlite:///{path}") as journal:
        yield Restored(journal, path)


async def test_attempts_that_the_journal_has_lost_are_judged_and_put_back(bank: Restored) -> None:
    statement, proved = await bank.claimed()
    before_signing = Copy(bank.path)
    await bank.sign(statement, proved)
    (attempt,) = await bank.journal.attempts(BATCH)
    await bank.ledger.broadcast(attempt)
    before_signing.restore()
    assert await bank.journal.attempts(BATCH) == []

    # The statement is lost as well: nobody is told Confirmed before the journal knows what was.
    assert await failure(bank.confirm(Signed(statement=statement, attempts=(attempt,)))) == ("BatchUnknown", False)
    assert await bank.journal.attempts(BATCH) == [attempt]
    again = await bank.ask(number=1, signed=Signed(statement=statement, attempts=(attempt,)))
    assert again.statement == statement
    assert await bank.sign_again(statement, 1, [attempt]) == attempt
    assert (await bank.confirm(Signed(statement=statement, attempts=(attempt,)))).standing is Standing.SETTLED
    assert (bank.ledger.signed, bank.ledger.payments) == (1, 1)


async def forgotten_renumbering(bank: Restored) -> tuple[Statement, SignedAttempt]:
    """The batch's statement and attempt under its second number, of which the journal, set back, knows nothing."""
    bank.ledger.fates.append(Fate.EXPIRES)
    await bank.signed()
    older = Copy(bank.path)
    bank.ledger.take_number(LANE, 1)
    renumbered = (await bank.ask(number=1, taken=1)).statement
    assert renumbered is not None
    await bank.journal.record_statement(BATCH, renumbered, await bank.prover.prove(renumbered))
    attempt = await bank.sign_again(renumbered, 1)
    await bank.ledger.broadcast(attempt)
    older.restore()
    return renumbered, attempt


async def test_a_landing_is_not_recorded_with_an_older_statement_of_the_batch(bank: Restored) -> None:
    renumbered, attempt = await forgotten_renumbering(bank)
    signed = Signed(statement=renumbered, attempts=(attempt,))
    assert await failure(bank.confirm(signed)) == ("BatchUnknown", False)
    assert (await bank.ask(number=2, signed=signed)).statement == renumbered
    assert await bank.sign_again(renumbered, 2, [attempt]) == attempt
    assert (await bank.confirm(signed)).standing is Standing.SETTLED
    batch = await bank.journal.batch(BATCH)
    assert batch is not None
    assert (batch.number, batch.bets_root, bank.ledger.payments) == (2, renumbered.bets_root, 1)


async def test_attempts_of_a_batch_that_was_confirmed_meanwhile_are_put_back_too(bank: Restored) -> None:
    await bank.settle()
    (kept,), (statement,) = await bank.journal.attempts(BATCH), bank.prover.proven
    lost = kept.model_copy(update={"attempt": 1, "signature": "lost"})
    again = await bank.ask(number=1, signed=Signed(statement=statement, attempts=(lost,)))
    assert (again.landing is not None, again.statement) == (True, statement)
    assert await bank.journal.attempts(BATCH) == [kept, lost]


async def test_a_confirmed_batch_whose_bets_are_not_those_of_its_root_is_for_a_person(bank: Restored) -> None:
    await bank.settle()
    with closing(sqlite3.connect(bank.path)) as journal, journal:
        journal.execute("DELETE FROM batch_slots WHERE position = 0")
    assert await failure(bank.ask((), own_bets=True, revived=True)) == ("JournalConflict", False)


async def test_a_revived_batch_hands_on_what_it_left_out_for_others(bank: Restored) -> None:
    await bank.claim()
    duplicate = DuplicateBet(bet_id="duplicate", batch_id=batch_id(LANE, [BETS[0]]))
    conflict = RefusedBet(bet_id="conflict", reason=RejectionReason.CONFLICT, detail="another bet with this id")
    uncovered = RefusedBet(bet_id="first", reason=RejectionReason.UNCOVERED, detail="a loss is not covered")
    for _ in range(2):
        known = {"refused": (uncovered, conflict), "duplicates": (duplicate,)}
        again = await bank.ask((), own_bets=True, revived=True, **known)
        assert (again.settling, again.refused, again.duplicates) == (1, (uncovered, conflict), (duplicate,))


async def test_a_revived_batch_gets_back_the_number_that_its_attempt_was_signed_for(bank: Restored) -> None:
    renumbered, attempt = await forgotten_renumbering(bank)
    signed = Signed(statement=renumbered, attempts=(attempt,))
    again = await bank.ask(number=2, signed=signed, own_bets=True, revived=True)
    assert (again.number, again.statement) == (2, renumbered)
    assert await bank.sign_again(renumbered, 2, [attempt]) == attempt
    assert (await bank.confirm(signed)).standing is Standing.SETTLED
    assert bank.ledger.payments == 1


async def test_a_revived_batch_that_the_journal_knows_by_an_older_number_waits_while_another_has_its_own(
    bank: Restored,
) -> None:
    lost = bet("lost", player=1)
    ask = {"batch_id": batch_id(LANE, [lost]), "revived": True, "own_bets": True}
    await bank.ask([lost], **ask, number=1)
    await bank.claim()
    assert await failure(bank.ask((), **ask, number=2)) == ("NumberInUse", False)
    await bank.settle()
    again = await bank.ask((), **ask, number=2)
    assert (again.number, again.statement is not None) == (1, True)


async def test_a_step_that_cannot_follow_on_an_older_journal_is_mended_by_another_claim(bank: Restored) -> None:
    statement, proved = await bank.claimed()
    between = Copy(bank.path)
    attempt = await bank.sign(statement, proved)
    between.restore()
    send = ConfirmRequest(
        batch_id=BATCH,
        statement=statement,
        live=(attempt,),
        send=True,
        submitted_sequence=proved + 1,
        confirmed_sequence=proved + 2,
    )
    assert await failure(run(bank.submitting.confirm_settlement, send)) == ("BatchUnknown", False)
    again = await bank.ask(number=1, signed=Signed(statement=statement, attempts=(attempt,)))
    assert (again.statement, await bank.journal.attempts(BATCH)) == (statement, [attempt])


async def test_an_attempt_signed_after_others_were_lost_does_not_get_their_number(bank: Restored) -> None:
    statement, _ = await bank.claimed()
    assert (await bank.sign_again(statement, 3)).attempt == 3


async def test_nothing_is_signed_beside_an_attempt_that_may_still_land(bank: Restored) -> None:
    bank.ledger.fates.append(Fate.WAITS)
    signed = await bank.signed()
    assert await bank.sign_again(signed.statement, 5, signed.attempts) == signed.attempts[0]
    assert bank.ledger.signed == 1


async def test_a_batch_that_the_journal_has_lost_is_said_to_be_unknown_until_it_is_claimed_again(
    bank: Restored,
) -> None:
    bank.ledger.fates.append(Fate.WAITS)
    signed = await bank.signed()
    bank.older.restore()
    assert await failure(bank.confirm(signed)) == ("BatchUnknown", False)
    again = await bank.ask(number=1, signed=signed)
    assert (again.number, again.statement, again.none_live) == (1, signed.statement, False)
    assert await bank.journal.attempts(BATCH) == list(signed.attempts)


async def test_a_lost_batch_none_of_whose_attempts_can_land_is_known_to_be_free_without_the_journal(
    bank: Restored,
) -> None:
    bank.ledger.fates.append(Fate.EXPIRES)
    signed = await bank.signed()
    bank.older.restore()
    assert (await bank.confirm(signed)).standing is Standing.NONE_LIVE


async def test_bets_of_a_lost_batch_that_another_has_claimed_are_waited_with_while_ours_may_land(
    bank: Restored,
) -> None:
    bank.ledger.fates.append(Fate.WAITS)
    signed = await bank.signed()
    bank.older.restore()
    other = await bank.claim_other([BETS[0]], number=7)
    waiting = await bank.ask(number=1, signed=signed)
    assert (waiting.statement, waiting.landing) == (None, None)
    assert f"first in {other}" in waiting.waiting_for

    bank.ledger.release()
    with pytest.raises(Exception, match=f"first in {other}.*Compare journal and chain by hand") as parked:
        await bank.ask(number=1, signed=signed)
    assert getattr(parked.value, "type", None) == "JournalConflict"
    assert await bank.bet_statuses() == [BetStatus.CLAIMED]
    assert bank.ledger.payments == 1


async def test_what_another_batch_has_left_of_a_lost_one_settles_once_its_attempts_have_expired(bank: Restored) -> None:
    bank.ledger.fates.append(Fate.WAITS)
    signed = await bank.signed()
    bank.older.restore()
    await bank.claim_other([BETS[0]], number=7)
    bank.ledger.expire()
    rest = await bank.ask(number=1, signed=signed)
    assert rest.none_live
    assert rest.statement is not None
    assert len(rest.statement.entries) == 1


async def test_a_lost_batch_all_of_whose_bets_another_has_claimed_does_not_end_while_its_attempt_may_land(
    bank: Restored,
) -> None:
    bank.ledger.fates.append(Fate.WAITS)
    signed = await bank.signed()
    bank.older.restore()
    await bank.claim_other(BETS[::-1], number=7)
    assert (await bank.ask(number=1, signed=signed)).waiting_for
    bank.ledger.expire()
    ended = await bank.ask(number=1, signed=signed)
    assert (ended.settling, ended.waiting_for, ended.statement) == (0, "", None)


async def test_a_lost_batch_whose_number_another_has_by_now_gets_a_new_one_only_when_nothing_of_it_can_land(
    bank: Restored,
) -> None:
    bank.ledger.fates.append(Fate.WAITS)
    signed = await bank.signed()
    bank.older.restore()
    await bank.claim_other([bet("elsewhere", player=1)], number=1)
    assert await failure(bank.ask(number=1, signed=signed)) == ("NumberInUse", False)
    bank.ledger.expire()
    assert await failure(bank.ask(number=1, signed=signed, revived=True)) == ("NumberInUse", False)
    again = await bank.ask(number=1, signed=signed)
    assert (again.number, again.none_live) == (2, True)


async def test_a_revived_batch_whose_number_another_has_settled_for_good_gets_a_new_one(bank: Restored) -> None:
    await bank.settle()
    lost = bet("lost", player=1)
    ask = bank.ask([lost], batch_id=batch_id(LANE, [lost]), number=1, revived=True)
    assert (await ask).number == 2


async def test_no_new_batch_is_claimed_until_the_journal_holds_all_that_the_chain_holds(bank: Restored) -> None:
    await bank.settle()
    bank.older.restore()
    new = bet("new", player=1)
    new_batch = batch_id(LANE, [new])
    with pytest.raises(Exception, match=r"batch 1 of lane 0.*starter\.py reconcile.*restore a newer copy") as behind:
        await bank.ask([new], batch_id=new_batch)
    assert getattr(behind.value, "type", None) == "JournalBehind"
    assert await bank.journal.bet("new") is None

    back = await bank.ask(number=1, revived=True)
    assert (back.number, back.statement is not None) == (1, True)
    assert (await bank.ask([new], batch_id=new_batch)).number == 2


async def test_numbers_between_that_the_chain_does_not_hold_do_not_hold_up_new_batches(bank: Restored) -> None:
    await bank.claim_other([bet("elsewhere", player=1)], number=4)
    bank.ledger.take_number(LANE, 4)
    assert (await bank.ask()).number == 5


async def test_a_revived_batch_whose_number_was_settled_with_other_bets_is_not_renumbered(bank: Restored) -> None:
    bank.ledger.take_number(LANE, 1)
    for taken in (None, 1):
        asked = bank.ask(number=1, revived=True, taken=taken)
        with pytest.raises(Exception, match="what was signed for it before may be unknown") as parked:
            await asked
        assert getattr(parked.value, "type", None) == "JournalConflict"
        batch = await bank.journal.batch(BATCH)
        assert batch is not None
        assert batch.number == 1
    # The first run of a batch knows what was signed for it.
    assert (await bank.ask(number=1)).number == 2


async def test_a_batch_is_revived_by_what_the_journal_holds_of_it(bank: Restored) -> None:
    bets = (*BETS, bet("homeless", player=STRANGER))
    first = await bank.ask(bets)
    revived = await bank.ask((), own_bets=True, revived=True)
    assert revived.statement == first.statement
    assert [refused.bet_id for refused in revived.refused] == ["homeless"]
    assert revived.own_bets == bets
    # From then on the run could tell a journal that loses them.
    bank.older.restore()
    assert await failure(bank.ask((), own_bets=True, revived=True)) == ("BatchUnknown", False)
    known = {"number": 1, "refused": revived.refused, "own_bets": True, "revived": True}
    again = await bank.ask(revived.own_bets, **known)
    assert again.statement == first.statement
