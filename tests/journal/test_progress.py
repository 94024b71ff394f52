"""A batch's life in the journal: every write may come twice, none may contradict what is there, and money is conserved."""

import asyncio

import pytest

from journal import progress
from journal.adapter import SqlJournal
from settlement.batches import BetStatus, ClaimedBatch, PlayerSlot, RefusedBet
from settlement.bets import RejectionReason
from settlement.errors import BatchUnknown, IllegalTransition, JournalConflict
from settlement.lifecycle import BatchStatus, Transition
from settlement.shapes import SHAPES
from tests.journal.samples import (
    LANE,
    PLAYERS,
    attempt,
    bet,
    claim,
    landing,
    proof,
    refusal,
    run,
    some_bets,
    statement,
    step,
)


@pytest.fixture
async def claimed(journal: SqlJournal) -> ClaimedBatch:
    """Three losses of 100, 101 and 102 lamports, and a win of 50 by the first player."""
    return await journal.claim(claim([*some_bets(3), bet("win", stake=50, won=True)]))


async def _proven(journal: SqlJournal, claimed: ClaimedBatch) -> None:
    await journal.record_transition(claimed.batch_id, step(1, BatchStatus.PROVING))
    await journal.record_transition(claimed.batch_id, step(2, BatchStatus.PROVED))
    await journal.record_statement(claimed.batch_id, statement(claimed), proof(statement(claimed)))


async def _statuses(journal: SqlJournal, batch_id: str) -> list[BatchStatus]:
    summary = await journal.batch(batch_id)
    assert summary is not None
    assert summary.status == summary.transitions[-1].status
    return [transition.status for transition in summary.transitions]


class TestTransitions:
    async def test_recording_one_twice_keeps_the_first(self, journal: SqlJournal, claimed: ClaimedBatch) -> None:
        await journal.record_transition(claimed.batch_id, step(1, BatchStatus.PROVING, "first"))
        await journal.record_transition(claimed.batch_id, step(2, BatchStatus.PROVED))
        await journal.record_transition(claimed.batch_id, step(1, BatchStatus.PROVING, "second"))
        assert await _statuses(journal, claimed.batch_id) == ["Pending", "Proving", "Proved"]
        summary = await journal.batch(claimed.batch_id)
        assert summary is not None
        assert summary.transitions[1] == step(1, BatchStatus.PROVING, "first")

    async def test_another_status_for_the_same_sequence_is_a_conflict(
        self, journal: SqlJournal, claimed: ClaimedBatch
    ) -> None:
        await journal.record_transition(claimed.batch_id, step(1, BatchStatus.PROVING))
        with pytest.raises(JournalConflict, match="recorded as Proving, not as Failed"):
            await journal.record_transition(claimed.batch_id, step(1, BatchStatus.FAILED))
        assert await _statuses(journal, claimed.batch_id) == ["Pending", "Proving"]

    async def test_what_the_lifecycle_forbids_is_refused(self, journal: SqlJournal, claimed: ClaimedBatch) -> None:
        with pytest.raises(IllegalTransition):
            await journal.record_transition(claimed.batch_id, step(1, BatchStatus.SUBMITTED))
        assert await _statuses(journal, claimed.batch_id) == ["Pending"]

    async def test_a_journal_that_lost_steps_goes_on_but_takes_none_late(
        self, journal: SqlJournal, claimed: ClaimedBatch
    ) -> None:
        await journal.record_transition(claimed.batch_id, step(5, BatchStatus.FAILED))
        with pytest.raises(JournalConflict, match="transition 3"):
            await journal.record_transition(claimed.batch_id, step(3, BatchStatus.PROVING))
        assert await _statuses(journal, claimed.batch_id) == ["Pending", "Failed"]

    async def test_only_a_landing_makes_a_batch_confirmed(self, journal: SqlJournal, claimed: ClaimedBatch) -> None:
        await _proven(journal, claimed)
        with pytest.raises(IllegalTransition, match="landing"):
            await journal.record_transition(claimed.batch_id, step(3, BatchStatus.CONFIRMED))

    async def test_of_a_batch_that_changes_without_end_only_the_status_and_the_confirmation_are_kept(
        self, journal: SqlJournal, claimed: ClaimedBatch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(progress, "MAX_TRANSITIONS_PER_BATCH", 3)
        await _proven(journal, claimed)
        await journal.record_transition(claimed.batch_id, step(3, BatchStatus.SUBMITTED))
        summary = await journal.batch(claimed.batch_id)
        assert summary is not None
        assert summary.status == BatchStatus.SUBMITTED
        assert [found.status for found in summary.transitions] == ["Pending", "Proving", "Proved"]
        await journal.confirm(claimed.batch_id, landing(claimed), step(4, BatchStatus.CONFIRMED))
        assert await _statuses(journal, claimed.batch_id) == ["Pending", "Proving", "Proved", "Confirmed"]

    async def test_a_batch_without_room_for_transitions_can_be_claimed_repeated_and_settled(
        self, journal: SqlJournal, claimed: ClaimedBatch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(progress, "MAX_TRANSITIONS_PER_BATCH", 2)
        await journal.record_transition(claimed.batch_id, step(1, BatchStatus.FAILED))
        again = await journal.claim(claim(claimed.bets))
        assert (again.status, again.sequence) == (BatchStatus.PENDING, 1)
        # An activity whose answer was lost writes the same again, and one that signs anew records Proved once more.
        for sequence, status, stands in (
            (2, BatchStatus.PROVING, BatchStatus.PROVING),
            (2, BatchStatus.PROVING, BatchStatus.PROVING),
            (3, BatchStatus.PROVED, BatchStatus.PROVED),
            (4, BatchStatus.SUBMITTED, BatchStatus.SUBMITTED),
            (3, BatchStatus.PROVED, BatchStatus.SUBMITTED),
            (4, BatchStatus.SUBMITTED, BatchStatus.SUBMITTED),
        ):
            await journal.record_transition(claimed.batch_id, step(sequence, status))
            summary = await journal.batch(claimed.batch_id)
            assert summary is not None
            assert summary.status == stands
        await journal.record_statement(claimed.batch_id, statement(claimed), proof(statement(claimed)))
        for _ in range(2):
            await journal.confirm(claimed.batch_id, landing(claimed), step(5, BatchStatus.CONFIRMED))
        await journal.record_transition(claimed.batch_id, step(4, BatchStatus.SUBMITTED))
        assert await _statuses(journal, claimed.batch_id) == ["Pending", "Failed", "Confirmed"]

    async def test_text_that_sql_cannot_hold_is_kept_readable(self, journal: SqlJournal, claimed: ClaimedBatch) -> None:
        await journal.record_transition(claimed.batch_id, step(1, BatchStatus.FAILED, "a\0b\ud800c"))
        summary = await journal.batch(claimed.batch_id)
        assert summary is not None
        assert summary.transitions[1].detail == "a\N{REPLACEMENT CHARACTER}b?c"

    async def test_a_batch_that_was_never_claimed_cannot_be_written_about(self, journal: SqlJournal) -> None:
        with pytest.raises(JournalConflict, match="claim it first"):
            await journal.record_transition("settlement-0-none", step(1, BatchStatus.PROVING))
        with pytest.raises(JournalConflict, match="claim it first"):
            await journal.renumber("settlement-0-none", taken=1, above=1, as_of_sequence=0)


class TestEjection:
    async def test_an_ejected_bet_keeps_its_first_reason_and_its_place(
        self, journal: SqlJournal, claimed: ClaimedBatch
    ) -> None:
        out = claimed.bets[1]
        await journal.eject(claimed.batch_id, [refusal(out, "first")], claimed.sequence, 0)
        before = await journal.rejections(10)
        await journal.eject(claimed.batch_id, [refusal(out, "second")], claimed.sequence, 0)
        record = await journal.bet(out.bet_id)
        assert record is not None
        assert (record.status, record.reason, record.detail, record.position) == (
            BetStatus.REJECTED,
            RejectionReason.UNCOVERED,
            "first",
            1,
        )
        assert await journal.rejections(10) == before
        summary = await journal.batch(claimed.batch_id)
        assert summary is not None
        assert (summary.bet_count, summary.player_count, summary.house_delta) == (3, 2, 152)

    async def test_a_settled_bet_cannot_be_ejected(self, journal: SqlJournal, claimed: ClaimedBatch) -> None:
        await _proven(journal, claimed)
        await journal.confirm(claimed.batch_id, landing(claimed), step(3, BatchStatus.CONFIRMED))
        with pytest.raises(JournalConflict, match="settled"):
            await journal.eject(claimed.batch_id, [refusal(claimed.bets[0])], 3, 0)
        record = await journal.bet(claimed.bets[0].bet_id)
        assert record is not None
        assert record.status == BetStatus.SETTLED

    async def test_an_ejection_is_whole_or_not_at_all(self, journal: SqlJournal, claimed: ClaimedBatch) -> None:
        other = await journal.claim(claim([bet("elsewhere")]))
        with pytest.raises(JournalConflict, match="elsewhere"):
            await journal.eject(
                claimed.batch_id, [refusal(claimed.bets[0]), refusal(other.bets[0])], claimed.sequence, 0
            )
        for found in (claimed.bets[0], other.bets[0]):
            record = await journal.bet(found.bet_id)
            assert record is not None
            assert record.status == BetStatus.CLAIMED

    async def test_it_forgets_the_statement_that_counted_the_bet(
        self, journal: SqlJournal, claimed: ClaimedBatch
    ) -> None:
        await _proven(journal, claimed)
        await journal.eject(claimed.batch_id, [refusal(claimed.bets[0])], 2, 0)
        summary = await journal.batch(claimed.batch_id)
        assert summary is not None
        assert (summary.bets_root, summary.circuit_id, summary.proof_milliseconds) == (None, None, None)
        assert await journal.slots(claimed.batch_id) == []
        with pytest.raises(JournalConflict, match="no statement"):
            await journal.confirm(claimed.batch_id, landing(claimed), step(3, BatchStatus.CONFIRMED))

    async def test_a_repeated_ejection_leaves_the_statement_that_came_after_it(
        self, journal: SqlJournal, claimed: ClaimedBatch
    ) -> None:
        refused = [refusal(claimed.bets[0])]
        await journal.eject(claimed.batch_id, refused, claimed.sequence, 0)
        rest = claimed.model_copy(update={"bets": claimed.bets[1:]})
        await journal.record_statement(claimed.batch_id, statement(rest), proof(statement(rest)))
        await journal.eject(claimed.batch_id, refused, claimed.sequence, 0)
        summary = await journal.batch(claimed.batch_id)
        assert summary is not None
        assert summary.bets_root == statement(rest).bets_root

    async def test_one_decided_on_an_earlier_state_of_the_batch_is_a_conflict_and_ejects_nothing(
        self, journal: SqlJournal, claimed: ClaimedBatch
    ) -> None:
        await _proven(journal, claimed)
        again = await journal.claim(claim(claimed.bets))
        await journal.record_statement(claimed.batch_id, statement(again), proof(statement(again)))
        for stale in (claimed.sequence, 2, again.sequence + 1):
            with pytest.raises(JournalConflict, match=rf"went on to Pending \(transition 3\).*transition {stale}\)"):
                await journal.eject(claimed.batch_id, [refusal(claimed.bets[0])], stale, 0)
        assert (await journal.claim(claim(claimed.bets))) == again
        summary = await journal.batch(claimed.batch_id)
        assert summary is not None
        assert summary.bets_root == statement(again).bets_root
        await journal.eject(claimed.batch_id, [refusal(claimed.bets[0])], again.sequence, 0)
        assert (await journal.claim(claim(claimed.bets))).bets == claimed.bets[1:]


class TestNumbers:
    async def test_renumbering_twice_gives_one_number(self, journal: SqlJournal, claimed: ClaimedBatch) -> None:
        assert await journal.renumber(claimed.batch_id, taken=1, above=40, as_of_sequence=claimed.sequence) == 41
        assert await journal.renumber(claimed.batch_id, taken=1, above=50, as_of_sequence=claimed.sequence) == 41
        following = await journal.claim(claim([bet("later")]))
        assert following.number == 42

    async def test_a_new_number_is_above_all_given_on_the_lane(
        self, journal: SqlJournal, claimed: ClaimedBatch
    ) -> None:
        await journal.claim(claim([bet("second")]))
        assert await journal.renumber(claimed.batch_id, taken=1, above=0, as_of_sequence=claimed.sequence) == 3

    async def test_renumberings_at_once_agree(self, url: str, claimed: ClaimedBatch) -> None:
        async with SqlJournal.open(url) as one, SqlJournal.open(url) as other:
            numbers = await asyncio.gather(
                *(
                    journal.renumber(claimed.batch_id, taken=1, above=7, as_of_sequence=claimed.sequence)
                    for journal in (one, other) * 3
                )
            )
        assert set(numbers) == {8}

    async def test_a_confirmed_batch_keeps_its_number(self, journal: SqlJournal, claimed: ClaimedBatch) -> None:
        await _proven(journal, claimed)
        await journal.confirm(claimed.batch_id, landing(claimed), step(3, BatchStatus.CONFIRMED))
        with pytest.raises(JournalConflict, match="Confirmed"):
            await journal.renumber(claimed.batch_id, taken=1, above=7, as_of_sequence=3)

    async def test_it_forgets_the_statement_that_named_the_old_number(
        self, journal: SqlJournal, claimed: ClaimedBatch
    ) -> None:
        await _proven(journal, claimed)
        await journal.renumber(claimed.batch_id, taken=1, above=7, as_of_sequence=2)
        summary = await journal.batch(claimed.batch_id)
        assert summary is not None
        assert (summary.number, summary.bets_root) == (8, None)


class TestStatements:
    async def test_it_is_kept_with_counts_house_delta_and_slots(
        self, journal: SqlJournal, claimed: ClaimedBatch
    ) -> None:
        await _proven(journal, claimed)
        await journal.record_statement(
            claimed.batch_id, statement(claimed), proof(statement(claimed), milliseconds=1_234)
        )
        summary = await journal.batch(claimed.batch_id)
        assert summary is not None
        assert (summary.bet_count, summary.player_count, summary.house_delta) == (4, 3, 253)
        assert (summary.circuit_id, summary.proof_milliseconds) == (SHAPES[0].circuit_id, 1_234)
        assert summary.bets_root == statement(claimed).bets_root
        assert await journal.slots(claimed.batch_id) == [
            PlayerSlot(player=PLAYERS[0], vault_index=1, net=-50),
            PlayerSlot(player=PLAYERS[1], vault_index=2, net=-101),
            PlayerSlot(player=PLAYERS[2], vault_index=3, net=-102),
        ]

    async def test_one_about_other_bets_or_nets_or_another_number_is_a_conflict(
        self, journal: SqlJournal, claimed: ClaimedBatch
    ) -> None:
        richer = bet(claimed.bets[0].bet_id, stake=99)
        for wrong, said in (
            ({"number": claimed.number + 1}, "number 1 of lane 3"),
            ({"lane": LANE + 1}, "number 1 of lane 3"),
            ({"bets": claimed.bets[:-1]}, "4 stand"),
            ({"bets": (richer, *claimed.bets[1:])}, f"player {PLAYERS[0]} to -49 lamports"),
            ({"bets": (*claimed.bets[:2], bet("stranger", player=5), claimed.bets[3])}, "lamports"),
        ):
            other = statement(claimed.model_copy(update=wrong))
            with pytest.raises(JournalConflict, match=said):
                await journal.record_statement(claimed.batch_id, other, proof(other))
        mine = statement(claimed)
        with pytest.raises(JournalConflict, match="proof"):
            await journal.record_statement(
                claimed.batch_id, mine, proof(mine).model_copy(update={"public_input": mine.public_input + 1})
            )
        summary = await journal.batch(claimed.batch_id)
        assert summary is not None
        assert summary.bets_root is None

    async def test_after_confirmation_only_the_same_one_is_let_be(
        self, journal: SqlJournal, claimed: ClaimedBatch
    ) -> None:
        await _proven(journal, claimed)
        await journal.confirm(claimed.batch_id, landing(claimed), step(3, BatchStatus.CONFIRMED))
        before = await journal.batch(claimed.batch_id)
        await journal.record_statement(claimed.batch_id, statement(claimed), proof(statement(claimed), 9))
        other = statement(claimed.model_copy(update={"bets": claimed.bets[:-1]}))
        with pytest.raises(JournalConflict, match="another statement"):
            await journal.record_statement(claimed.batch_id, other, proof(other))
        assert await journal.batch(claimed.batch_id) == before


class TestAttempts:
    async def test_the_first_of_a_number_is_the_one(self, journal: SqlJournal, claimed: ClaimedBatch) -> None:
        await _proven(journal, claimed)
        first, second = attempt(claimed, 0), attempt(claimed, 0, signature="other")
        assert await journal.record_attempt(claimed.batch_id, first) == first
        assert await journal.record_attempt(claimed.batch_id, second) == first
        later = attempt(claimed, 1)
        assert await journal.record_attempt(claimed.batch_id, later) == later
        assert await journal.attempts(claimed.batch_id) == [first, later]

    async def test_attempts_at_once_agree_on_one(self, url: str, journal: SqlJournal, claimed: ClaimedBatch) -> None:
        await _proven(journal, claimed)
        async with SqlJournal.open(url) as one, SqlJournal.open(url) as other:
            kept = await asyncio.gather(
                *(
                    journal.record_attempt(claimed.batch_id, attempt(claimed, 0, signature=f"signature-{n}"))
                    for n, journal in enumerate((one, other) * 3)
                )
            )
            assert [kept[0]] == await one.attempts(claimed.batch_id)
        assert len(set(kept)) == 1

    async def test_a_signature_belongs_to_one_attempt(self, journal: SqlJournal, claimed: ClaimedBatch) -> None:
        await _proven(journal, claimed)
        await journal.record_attempt(claimed.batch_id, attempt(claimed, 0, signature="same"))
        with pytest.raises(JournalConflict):
            await journal.record_attempt(claimed.batch_id, attempt(claimed, 1, signature="same"))

    async def test_one_signed_for_another_number_is_not_kept_so_not_sent(
        self, journal: SqlJournal, claimed: ClaimedBatch
    ) -> None:
        number = await journal.renumber(claimed.batch_id, taken=1, above=7, as_of_sequence=claimed.sequence)
        # The root of the bets does not tell the numbers apart.
        renumbered = statement(claimed.model_copy(update={"number": number}))
        await journal.record_statement(claimed.batch_id, renumbered, proof(renumbered))
        with pytest.raises(JournalConflict, match=r"number 1, batch .* has 8"):
            await journal.record_attempt(claimed.batch_id, attempt(claimed, 0))
        assert await journal.attempts(claimed.batch_id) == []

    async def test_one_signed_for_another_statement_or_before_any_is_not_kept_so_not_sent(
        self, journal: SqlJournal, claimed: ClaimedBatch
    ) -> None:
        rest = claimed.model_copy(update={"bets": claimed.bets[1:]})
        with pytest.raises(BatchUnknown, match="no statement"):
            await journal.record_attempt(claimed.batch_id, attempt(claimed, 0))
        await _proven(journal, claimed)
        with pytest.raises(JournalConflict, match="not signed for its recorded statement"):
            await journal.record_attempt(claimed.batch_id, attempt(rest, 0))
        await journal.eject(claimed.batch_id, [refusal(claimed.bets[0])], 2, 0)
        await journal.record_statement(claimed.batch_id, statement(rest), proof(statement(rest)))
        with pytest.raises(JournalConflict, match="not signed for its recorded statement"):
            await journal.record_attempt(claimed.batch_id, attempt(claimed, 0))
        assert await journal.attempts(claimed.batch_id) == []
        assert await journal.record_attempt(claimed.batch_id, attempt(rest, 0)) == attempt(rest, 0)

    async def test_one_that_was_kept_is_answered_whatever_statement_stands_now(
        self, journal: SqlJournal, claimed: ClaimedBatch
    ) -> None:
        await _proven(journal, claimed)
        kept = await journal.record_attempt(claimed.batch_id, attempt(claimed, 0))
        with pytest.raises(JournalConflict, match="was signed 1 times, and 0 attempts were judged"):
            await journal.eject(claimed.batch_id, [refusal(claimed.bets[0])], 2, 0)
        assert (await journal.claim(claim(claimed.bets))).bets == claimed.bets
        await journal.eject(claimed.batch_id, [refusal(claimed.bets[0])], 3, 1)
        assert await journal.record_attempt(claimed.batch_id, kept) == kept
        rest = claimed.model_copy(update={"bets": claimed.bets[1:]})
        assert await journal.record_attempt(claimed.batch_id, attempt(rest, 0, signature="other")) == kept
        assert await journal.attempts(claimed.batch_id) == [kept]

    async def test_a_batch_that_is_signed_without_end_is_stopped_for_a_person(
        self, journal: SqlJournal, claimed: ClaimedBatch
    ) -> None:
        await _proven(journal, claimed)
        with pytest.raises(JournalConflict, match="find out why"):
            await journal.record_attempt(claimed.batch_id, attempt(claimed, progress.MAX_ATTEMPTS_PER_BATCH))


class TestConfirmation:
    async def test_it_settles_the_bets_that_stand_and_keeps_the_landing(
        self, journal: SqlJournal, claimed: ClaimedBatch
    ) -> None:
        await journal.eject(claimed.batch_id, [refusal(claimed.bets[2])], claimed.sequence, 0)
        rest = claimed.model_copy(update={"bets": (*claimed.bets[:2], claimed.bets[3])})
        await _proven(journal, rest)
        await journal.record_transition(claimed.batch_id, step(3, BatchStatus.SUBMITTED))
        await journal.confirm(claimed.batch_id, landing(claimed), step(4, BatchStatus.CONFIRMED))
        summary = await journal.batch(claimed.batch_id)
        assert summary is not None
        assert (summary.status, summary.landing) == (BatchStatus.CONFIRMED, landing(claimed))
        assert [record.status for record in await journal.bets_of(claimed.batch_id)] == [
            "settled",
            "settled",
            "rejected",
            "settled",
        ]

    async def test_a_repeat_changes_nothing_and_another_signature_is_a_conflict(
        self, journal: SqlJournal, claimed: ClaimedBatch
    ) -> None:
        await _proven(journal, claimed)
        await journal.confirm(claimed.batch_id, landing(claimed), step(3, BatchStatus.CONFIRMED))
        before = await journal.batch(claimed.batch_id)
        without_history = landing(claimed).model_copy(update={"compute_units": None, "fee_lamports": None})
        await journal.confirm(claimed.batch_id, without_history, step(3, BatchStatus.CONFIRMED))
        await journal.confirm(claimed.batch_id, landing(claimed), step(7, BatchStatus.CONFIRMED))
        with pytest.raises(JournalConflict, match="another-signature"):
            await journal.confirm(
                claimed.batch_id, landing(claimed, "another-signature"), step(3, BatchStatus.CONFIRMED)
            )
        assert await journal.batch(claimed.batch_id) == before

    @pytest.mark.parametrize(
        "steps",
        [[], [BatchStatus.PROVING], [BatchStatus.PROVING, BatchStatus.PROVED]],
        ids=["pending", "proving", "proved"],
    )
    async def test_a_rival_run_may_confirm_a_batch_that_is_not_submitted_yet(
        self, journal: SqlJournal, claimed: ClaimedBatch, steps: list[BatchStatus]
    ) -> None:
        for sequence, status in enumerate(steps, start=1):
            await journal.record_transition(claimed.batch_id, step(sequence, status))
        await journal.record_statement(claimed.batch_id, statement(claimed), proof(statement(claimed)))
        await journal.confirm(claimed.batch_id, landing(claimed), step(len(steps) + 1, BatchStatus.CONFIRMED))
        assert await _statuses(journal, claimed.batch_id) == ["Pending", *steps, "Confirmed"]

    @pytest.mark.parametrize(
        "transition", [step(3, BatchStatus.SUBMITTED), step(3, BatchStatus.FAILED)], ids=["submitted", "failed"]
    )
    async def test_a_landed_batch_becomes_nothing_but_confirmed(
        self, journal: SqlJournal, claimed: ClaimedBatch, transition: Transition
    ) -> None:
        await _proven(journal, claimed)
        with pytest.raises(IllegalTransition):
            await journal.confirm(claimed.batch_id, landing(claimed), transition)

    async def test_an_illegal_confirmation_leaves_everything_as_it_was(
        self, journal: SqlJournal, claimed: ClaimedBatch
    ) -> None:
        await journal.record_statement(claimed.batch_id, statement(claimed), proof(statement(claimed)))
        await journal.record_transition(claimed.batch_id, step(1, BatchStatus.FAILED))
        with pytest.raises(IllegalTransition):
            await journal.confirm(claimed.batch_id, landing(claimed), step(2, BatchStatus.CONFIRMED))
        summary = await journal.batch(claimed.batch_id)
        assert summary is not None
        assert (summary.status, summary.landing) == (BatchStatus.FAILED, None)
        assert all(record.status == BetStatus.CLAIMED for record in await journal.bets_of(claimed.batch_id))

    async def test_money_that_does_not_balance_is_named_with_both_figures(
        self, url: str, journal: SqlJournal, claimed: ClaimedBatch
    ) -> None:
        await _proven(journal, claimed)
        await run(url, "UPDATE bets SET stake = stake + 1 WHERE position = 1")
        with pytest.raises(JournalConflict, match=r"254 lamports, its statement 253"):
            await journal.confirm(claimed.batch_id, landing(claimed), step(3, BatchStatus.CONFIRMED))
        assert await _statuses(journal, claimed.batch_id) == ["Pending", "Proving", "Proved"]


async def test_refused_bet_reasons_survive(journal: SqlJournal, claimed: ClaimedBatch) -> None:
    refused = [
        RefusedBet(bet_id=found.bet_id, reason=reason, detail=reason.value)
        for found, reason in zip(claimed.bets, list(RejectionReason)[-4:], strict=True)
    ]
    await journal.eject(claimed.batch_id, refused, claimed.sequence, 0)
    records = await journal.bets_of(claimed.batch_id)
    assert [(record.reason, record.detail) for record in records] == [(out.reason, out.detail) for out in refused]
