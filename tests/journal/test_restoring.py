"""A journal that was restored from an older copy: it gets back what it has lost, and gives no number behind the chain's back."""

import pytest

from journal import progress
from journal.adapter import SqlJournal
from settlement.batches import BetStatus, ClaimedBatch, DuplicateBet, RefusedBet
from settlement.bets import RejectionReason
from settlement.errors import BatchUnknown, JournalBehind, JournalConflict, JournalUnavailable, NumberInUse
from settlement.lifecycle import BatchStatus
from tests.journal.samples import attempt, bet, claim, landing, proof, refusal, some_bets, statement, step

UNKNOWN = "settlement-3-none"


@pytest.fixture
async def claimed(journal: SqlJournal) -> ClaimedBatch:
    return await journal.claim(claim(some_bets(3)))


async def test_a_batch_that_the_journal_does_not_hold_is_said_to_be_unknown(journal: SqlJournal) -> None:
    held = await journal.claim(claim(some_bets(1)))
    for write in (
        journal.attempts(UNKNOWN),
        journal.resume(UNKNOWN, 3, step(0, BatchStatus.PENDING), None, ()),
        journal.record_transition(UNKNOWN, step(1, BatchStatus.PROVING)),
        journal.eject(UNKNOWN, [], 0, 0),
        journal.renumber(UNKNOWN, 1, 1, 0),
        journal.record_statement(UNKNOWN, statement(held), proof(statement(held))),
        journal.record_attempt(UNKNOWN, attempt(held)),
        journal.restore_attempts(UNKNOWN, [attempt(held)]),
        journal.confirm(UNKNOWN, landing(held), step(1, BatchStatus.CONFIRMED)),
        journal.amend_landing(UNKNOWN, landing(held)),
    ):
        with pytest.raises(BatchUnknown, match=UNKNOWN):
            await write
    assert await journal.attempts(held.batch_id) == []


async def test_a_landing_without_a_statement_says_that_the_journal_is_older_than_the_batch(
    journal: SqlJournal, claimed: ClaimedBatch
) -> None:
    with pytest.raises(BatchUnknown, match="no statement"):
        await journal.confirm(claimed.batch_id, landing(claimed), step(1, BatchStatus.CONFIRMED))


class TestNewNumbers:
    async def test_none_is_given_while_the_chain_is_ahead(self, journal: SqlJournal) -> None:
        asked = claim(some_bets(2))
        with pytest.raises(JournalBehind, match="up to number 4") as behind:
            await journal.claim(asked.model_copy(update={"highest_on_chain": 4}))
        assert behind.value.complete_up_to == 0
        assert await journal.batch(asked.batch_id) is None
        assert await journal.bet("bet-0") is None
        # A batch that it knows needs no new number.
        known = await journal.claim(asked)
        assert await journal.claim(asked.model_copy(update={"highest_on_chain": 4})) == known

    async def test_none_is_given_without_a_word_about_the_chain(self, journal: SqlJournal) -> None:
        with pytest.raises(JournalUnavailable):
            await journal.claim(claim(some_bets(2)).model_copy(update={"highest_on_chain": None}))

    async def test_a_batch_put_back_above_does_not_make_up_for_those_below(self, journal: SqlJournal) -> None:
        back = claim(some_bets(1, "back")).model_copy(update={"number": 4, "highest_on_chain": None})
        assert (await journal.claim(back)).number == 4
        new = claim(some_bets(1, "new")).model_copy(update={"highest_on_chain": 4})
        with pytest.raises(JournalBehind) as behind:
            await journal.claim(new)
        assert behind.value.complete_up_to == 0
        complete = new.model_copy(update={"complete_up_to": 4})
        assert (await journal.claim(complete)).number == 5
        assert (await journal.claim(claim(some_bets(1, "newer")))).number == 6

    async def test_it_is_above_those_put_back_that_are_not_on_chain_yet(self, journal: SqlJournal) -> None:
        await journal.claim(claim(some_bets(1, "back")).model_copy(update={"number": 9}))
        assert (await journal.claim(claim(some_bets(1, "new")))).number == 10
        renumbered = await journal.claim(claim(some_bets(1, "taken")).model_copy(update={"number": 2}))
        assert await journal.renumber(renumbered.batch_id, 2, 3, 0) == 11

    async def test_a_renumbering_above_the_chain_leaves_it_known_that_the_journal_is_behind(
        self, journal: SqlJournal, claimed: ClaimedBatch
    ) -> None:
        assert await journal.renumber(claimed.batch_id, taken=1, above=7, as_of_sequence=0) == 8
        with pytest.raises(JournalBehind):
            await journal.claim(claim(some_bets(1, "new")).model_copy(update={"highest_on_chain": 7}))

    async def test_one_that_a_renumbering_gives_among_the_journals_own_counts_as_given(
        self, journal: SqlJournal, claimed: ClaimedBatch
    ) -> None:
        assert await journal.renumber(claimed.batch_id, taken=1, above=0, as_of_sequence=0) == 2
        new = claim(some_bets(1, "new")).model_copy(update={"highest_on_chain": 2})
        assert (await journal.claim(new)).number == 3

    async def test_it_may_need_more_than_32_bits(self, journal: SqlJournal, claimed: ClaimedBatch) -> None:
        new = claim(some_bets(1, "new")).model_copy(update={"highest_on_chain": 2**40, "complete_up_to": 2**40})
        assert (await journal.claim(new)).number == 2**40 + 1
        assert await journal.renumber(claimed.batch_id, taken=1, above=2**50, as_of_sequence=0) == 2**50 + 1


class TestClaimsUnderANumber:
    async def test_one_that_another_batch_has_by_now_names_both(
        self, journal: SqlJournal, claimed: ClaimedBatch
    ) -> None:
        lost = claim(some_bets(1, "lost")).model_copy(update={"number": 1})
        with pytest.raises(NumberInUse, match=f"{lost.batch_id} had number 1 .*{claimed.batch_id}"):
            await journal.claim(lost)
        assert await journal.batch(lost.batch_id) is None

    async def test_what_was_decided_of_its_bets_is_decided_again(self, journal: SqlJournal) -> None:
        bets = some_bets(4)
        conflict = RefusedBet(bet_id="bet-3", reason=RejectionReason.CONFLICT, detail="another bet with this id")
        lost = claim(bets).model_copy(
            update={
                "number": 7,
                "refused": (refusal(bets[0]), conflict),
                "duplicates": (DuplicateBet(bet_id="bet-2", batch_id="settlement-3-other"),),
            }
        )
        for _ in range(2):
            answer = await journal.claim(lost)
            assert (answer.number, answer.bets) == (7, (bets[1],))
            assert sorted(answer.refused, key=lambda refused: refused.bet_id) == [refusal(bets[0]), conflict]
            assert [duplicate.bet_id for duplicate in answer.duplicates] == ["bet-2"]
        # They stay free for the batch that they are another's duplicate of.
        assert await journal.bet("bet-2") is None
        assert await journal.bet("bet-3") is None
        assert sorted(rejection.bet_id or "" for rejection in await journal.rejections(10)) == ["bet-0", "bet-3"]

    async def test_a_bet_that_stands_twice_in_its_own_batch_stays_its_own(self, journal: SqlJournal) -> None:
        bets = [bet("twice"), bet("twice"), bet("other", stake=5), bet("other", stake=6)]
        twice = DuplicateBet(bet_id="twice", batch_id=claim(bets).batch_id)
        conflict = RefusedBet(bet_id="other", reason=RejectionReason.CONFLICT, detail="another bet with this id")
        lost = claim(bets).model_copy(update={"refused": (conflict,), "duplicates": (twice,), "number": 1})
        answer = await journal.claim(lost)
        assert (answer.bets, answer.duplicates) == ((bets[0], bets[2]), (twice,))

    async def test_a_journal_that_is_older_catches_up_and_one_that_is_newer_stays(
        self, journal: SqlJournal, claimed: ClaimedBatch
    ) -> None:
        asked = claim(claimed.bets)
        await journal.record_statement(claimed.batch_id, statement(claimed), proof(statement(claimed)))
        later = asked.model_copy(update={"number": 6, "refused": (refusal(claimed.bets[1]),)})
        answer = await journal.claim(later)
        assert (answer.number, answer.bets) == (6, (claimed.bets[0], claimed.bets[2]))
        summary = await journal.batch(claimed.batch_id)
        assert summary is not None
        assert summary.bets_root is None
        assert (await journal.claim(asked.model_copy(update={"number": 1}))).number == 6

    async def test_a_confirmed_batch_stays_as_it_is(self, journal: SqlJournal, claimed: ClaimedBatch) -> None:
        await journal.record_statement(claimed.batch_id, statement(claimed), proof(statement(claimed)))
        await journal.confirm(claimed.batch_id, landing(claimed), step(1, BatchStatus.CONFIRMED))
        before = await journal.batch(claimed.batch_id)
        asked = claim(claimed.bets).model_copy(update={"number": 6, "refused": (refusal(claimed.bets[1]),)})
        assert (await journal.claim(asked)).bets == claimed.bets
        assert await journal.batch(claimed.batch_id) == before


async def test_a_batch_is_resumed_by_its_own_rows(journal: SqlJournal, claimed: ClaimedBatch) -> None:
    await journal.eject(claimed.batch_id, [refusal(claimed.bets[1])], 0, 0)
    await journal.record_transition(claimed.batch_id, step(1, BatchStatus.FAILED))
    for _ in range(2):
        answer = await journal.resume(claimed.batch_id, claimed.lane, step(0, BatchStatus.PENDING, "again"), None, ())
        assert (answer.number, answer.status, answer.sequence) == (1, BatchStatus.PENDING, 2)
        assert answer.bets == (claimed.bets[0], claimed.bets[2])
        assert answer.refused == (refusal(claimed.bets[1]),)
    with pytest.raises(JournalConflict, match="is of lane 3"):
        await journal.resume(claimed.batch_id, 4, step(0, BatchStatus.PENDING), None, ())


async def test_a_batch_resumed_on_an_older_journal_gets_back_its_number_and_its_refusals(
    journal: SqlJournal, claimed: ClaimedBatch
) -> None:
    pending = step(0, BatchStatus.PENDING)
    stranger = refusal(bet("not-its-own"))
    for _ in range(2):
        answer = await journal.resume(claimed.batch_id, claimed.lane, pending, 6, [refusal(claimed.bets[1]), stranger])
        assert (answer.number, answer.bets) == (6, (claimed.bets[0], claimed.bets[2]))
        assert answer.refused == (refusal(claimed.bets[1]),)
    # A journal that is newer stays as it is.
    assert (await journal.resume(claimed.batch_id, claimed.lane, pending, 1, ())).number == 6
    other = await journal.claim(claim(some_bets(1, "other")))
    with pytest.raises(NumberInUse, match=f"given to batch {other.batch_id}"):
        await journal.resume(claimed.batch_id, claimed.lane, pending, other.number, ())


async def test_a_step_that_cannot_follow_what_an_older_journal_holds_is_not_a_conflict(
    journal: SqlJournal, claimed: ClaimedBatch
) -> None:
    with pytest.raises(BatchUnknown, match="no statement of what attempt 0"):
        await journal.record_attempt(claimed.batch_id, attempt(claimed))
    await journal.record_statement(claimed.batch_id, statement(claimed), proof(statement(claimed)))
    for lost in (step(2, BatchStatus.PROVED), step(3, BatchStatus.SUBMITTED)):
        with pytest.raises(
            BatchUnknown, match=rf"from Pending \(transition 0\) to {lost.status}.*restored from an older copy"
        ):
            await journal.record_transition(claimed.batch_id, lost)
    await journal.record_transition(claimed.batch_id, step(1, BatchStatus.FAILED))
    with pytest.raises(BatchUnknown, match="restored from an older copy"):
        await journal.confirm(claimed.batch_id, landing(claimed), step(4, BatchStatus.CONFIRMED))
    summary = await journal.batch(claimed.batch_id)
    assert summary is not None
    assert [taken.sequence for taken in summary.transitions] == [0, 1]


async def test_attempts_are_put_back_once_and_never_share_a_number(journal: SqlJournal, claimed: ClaimedBatch) -> None:
    await journal.record_statement(claimed.batch_id, statement(claimed), proof(statement(claimed)))
    kept = await journal.record_attempt(claimed.batch_id, attempt(claimed, 0))
    # Signed for a number that the batch had, or will have: whatever it was, it may land.
    lost = [attempt(claimed, 0, "lost"), attempt(claimed, 5).model_copy(update={"number": 9}), kept]
    for _ in range(2):
        await journal.restore_attempts(claimed.batch_id, lost)
    assert await journal.attempts(claimed.batch_id) == [kept, lost[0].model_copy(update={"attempt": 1}), lost[1]]


async def test_a_landing_is_amended_and_nothing_else(journal: SqlJournal, claimed: ClaimedBatch) -> None:
    amended = landing(claimed, "landed-again").model_copy(update={"slot": 2**40 + 9})
    with pytest.raises(JournalConflict, match="only a Confirmed one"):
        await journal.amend_landing(claimed.batch_id, amended)
    await journal.record_statement(claimed.batch_id, statement(claimed), proof(statement(claimed)))
    await journal.confirm(claimed.batch_id, landing(claimed), step(1, BatchStatus.CONFIRMED))
    before = await journal.batch(claimed.batch_id)
    assert before is not None
    for _ in range(2):
        await journal.amend_landing(claimed.batch_id, amended)
        assert await journal.batch(claimed.batch_id) == before.model_copy(update={"landing": amended})
    assert {record.status for record in await journal.bets_of(claimed.batch_id)} == {BetStatus.SETTLED}


async def test_of_a_batch_without_room_for_transitions_no_bet_is_ejected_once_it_went_on(
    journal: SqlJournal, claimed: ClaimedBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "MAX_TRANSITIONS_PER_BATCH", 2)
    await journal.record_transition(claimed.batch_id, step(1, BatchStatus.FAILED))
    again = await journal.claim(claim(claimed.bets))
    await journal.record_transition(claimed.batch_id, step(2, BatchStatus.PROVING))
    for stale in (
        journal.eject(claimed.batch_id, [refusal(claimed.bets[0])], again.sequence, 0),
        journal.renumber(claimed.batch_id, 1, 3, again.sequence),
    ):
        with pytest.raises(JournalConflict, match="went on to Proving"):
            await stale
    again = await journal.claim(claim(claimed.bets))
    await journal.eject(claimed.batch_id, [refusal(claimed.bets[0])], again.sequence, 0)
    assert (await journal.claim(claim(claimed.bets))).bets == claimed.bets[1:]


async def test_a_renumbering_decided_on_an_earlier_state_of_the_batch_is_a_conflict(
    journal: SqlJournal, claimed: ClaimedBatch
) -> None:
    await journal.record_transition(claimed.batch_id, step(1, BatchStatus.PROVING))
    with pytest.raises(JournalConflict, match="went on to Proving"):
        await journal.renumber(claimed.batch_id, taken=1, above=3, as_of_sequence=0)
    assert (await journal.claim(claim(claimed.bets))).number == 1
