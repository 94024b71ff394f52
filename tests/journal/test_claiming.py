"""A bet id belongs to one batch for good, a number to one batch of a lane, and a repeated claim gets the same answer."""

import asyncio
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import text

from journal import claiming, progress
from journal.adapter import SqlJournal
from journal.database import Database
from settlement.batches import BetStatus, DuplicateBet
from settlement.bets import Bet, RejectionReason
from settlement.errors import IllegalTransition, JournalConflict
from settlement.lifecycle import BatchStatus
from tests.journal.claimer import bets_of_batch
from tests.journal.samples import LANE, PLAYERS, bet, claim, landing, proof, refusal, some_bets, statement, step

ROOT = Path(__file__).parents[2]
POLLS_MAX = 500
POLL_SECONDS = 0.01


async def test_a_claim_holds_its_bets_in_order_and_starts_pending(journal: SqlJournal) -> None:
    asked = claim(some_bets(5))
    answer = await journal.claim(asked)
    assert (answer.status, answer.sequence) == (BatchStatus.PENDING, 0)
    assert (answer.number, answer.bets, answer.refused, answer.duplicates) == (1, asked.bets, (), ())
    records = await journal.bets_of(asked.batch_id)
    assert [(record.bet, record.position, record.status) for record in records] == [
        (wanted, position, BetStatus.CLAIMED) for position, wanted in enumerate(asked.bets)
    ]
    summary = await journal.batch(asked.batch_id)
    assert summary is not None
    assert (summary.status, summary.transitions) == (BatchStatus.PENDING, (asked.transition,))
    assert (summary.bet_count, summary.player_count, summary.house_delta) == (5, 5, 510)


async def test_numbers_count_up_on_each_lane_by_itself(journal: SqlJournal) -> None:
    numbers = [
        (await journal.claim(claim(some_bets(1, f"{lane}-{n}"), lane=lane))).number for n in (1, 2) for lane in (1, 2)
    ]
    assert numbers == [1, 1, 2, 2]


async def test_a_repeated_claim_is_answered_the_same_and_writes_nothing(journal: SqlJournal) -> None:
    await journal.claim(claim([bet("duplicate"), bet("conflict")]))
    asked = claim([bet("b"), bet("duplicate"), bet("conflict", stake=7), bet("a"), bet("b"), bet("a", stake=8)])
    first = await journal.claim(asked)
    rejections = await journal.rejections(10)
    assert await journal.claim(asked) == first
    assert await journal.rejections(10) == rejections
    assert (await journal.claim(claim(some_bets(1)))).number == first.number + 1


async def test_the_same_bet_in_another_batch_is_a_duplicate_of_the_original(journal: SqlJournal) -> None:
    original = await journal.claim(claim([bet("a"), bet("b")]))
    answer = await journal.claim(claim([bet("b"), bet("c")]))
    assert answer.duplicates == (DuplicateBet(bet_id="b", batch_id=original.batch_id),)
    assert [found.bet_id for found in answer.bets] == ["c"]
    owner = await journal.bet("b")
    assert owner is not None
    assert owner.batch_id == original.batch_id


async def test_another_bet_with_a_taken_id_is_refused_and_recorded_as_a_conflict(journal: SqlJournal) -> None:
    original = await journal.claim(claim([bet("a", stake=100)]))
    answer = await journal.claim(claim([bet("c"), bet("a", stake=200)]))
    assert [(refused.bet_id, refused.reason) for refused in answer.refused] == [("a", RejectionReason.CONFLICT)]
    assert original.batch_id in answer.refused[0].detail
    (recorded,) = await journal.rejections(10)
    assert (recorded.bet_id, recorded.reason, recorded.lane) == ("a", RejectionReason.CONFLICT, LANE)
    assert '"stake":200' in recorded.payload
    owner = await journal.bet("a")
    assert owner is not None
    assert owner.bet.stake == 100


async def test_a_bet_id_that_stands_several_times_in_one_claim_goes_to_its_first_place(journal: SqlJournal) -> None:
    asked = claim([bet("a"), bet("a"), bet("a", stake=1), bet("a", stake=2), bet("z")])
    answer = await journal.claim(asked)
    assert answer.bets == (bet("a"), bet("z"))
    assert answer.duplicates == (DuplicateBet(bet_id="a", batch_id=asked.batch_id),)
    assert [refused.bet_id for refused in answer.refused] == ["a", "a"]
    assert len(await journal.rejections(10)) == 2
    assert [record.position for record in await journal.bets_of(asked.batch_id)] == [0, 4]


async def test_a_claim_of_which_no_bet_is_left_has_a_number_all_the_same(journal: SqlJournal) -> None:
    await journal.claim(claim([bet("a")]))
    answer = await journal.claim(claim([bet("a"), bet("a")]))
    assert (answer.number, answer.bets) == (2, ())
    summary = await journal.batch(answer.batch_id)
    assert summary is not None
    assert (summary.bet_count, summary.player_count, summary.house_delta) == (0, 0, 0)


async def test_a_repeated_claim_tells_the_truth_of_now_after_ejection_and_renumbering(journal: SqlJournal) -> None:
    asked = claim(some_bets(4))
    await journal.claim(asked)
    await journal.eject(asked.batch_id, [refusal(asked.bets[2])], 0, 0)
    assert await journal.renumber(asked.batch_id, taken=1, above=9, as_of_sequence=0) == 10
    answer = await journal.claim(asked)
    assert (answer.number, answer.refused) == (10, (refusal(asked.bets[2]),))
    assert answer.bets == (asked.bets[0], asked.bets[1], asked.bets[3])


async def test_a_claim_repeated_after_settlement_still_names_the_bets_and_leaves_the_batch_confirmed(
    journal: SqlJournal,
) -> None:
    asked = claim(some_bets(2))
    first = await journal.claim(asked)
    await journal.record_transition(asked.batch_id, step(1, BatchStatus.PROVING))
    await journal.record_statement(asked.batch_id, statement(first), proof(statement(first)))
    await journal.confirm(asked.batch_id, landing(first), step(2, BatchStatus.CONFIRMED))
    before = await journal.batch(asked.batch_id)
    assert await journal.claim(asked) == first.model_copy(update={"status": BatchStatus.CONFIRMED, "sequence": 2})
    assert await journal.batch(asked.batch_id) == before


@pytest.mark.parametrize(
    "steps",
    [
        [BatchStatus.PROVING],
        [BatchStatus.PROVING, BatchStatus.PROVED],
        [BatchStatus.PROVING, BatchStatus.PROVED, BatchStatus.SUBMITTED],
        [BatchStatus.FAILED],
    ],
    ids=lambda steps: steps[-1].value.lower(),
)
async def test_a_repeated_claim_returns_the_batch_to_pending_once_under_its_next_sequence(
    journal: SqlJournal, steps: list[BatchStatus]
) -> None:
    asked = claim(some_bets(2))
    first = await journal.claim(asked)
    for sequence, status in enumerate(steps, start=1):
        await journal.record_transition(asked.batch_id, step(sequence, status))
    # Whoever claims again does not know how far the batch came, so the sequence it asks with means nothing.
    again = asked.model_copy(update={"transition": step(0, BatchStatus.PENDING, "asked by a person")})
    pending = step(len(steps) + 1, BatchStatus.PENDING, "asked by a person")
    for _ in range(2):
        answer = await journal.claim(again)
        assert answer == first.model_copy(update={"sequence": pending.sequence})
    summary = await journal.batch(asked.batch_id)
    assert summary is not None
    assert [found.status for found in summary.transitions] == [BatchStatus.PENDING, *steps, BatchStatus.PENDING]
    assert (summary.status, summary.transitions[-1]) == (BatchStatus.PENDING, pending)


async def test_a_claim_that_waited_for_an_ejection_does_not_answer_the_ejected_bet(postgresql_url: str) -> None:
    asked = claim(some_bets(2))
    ejecting = Database(postgresql_url)
    async with SqlJournal.open(postgresql_url) as journal:
        first = await journal.claim(asked)
        async with ejecting.write() as connection:
            await progress.eject(connection, asked.batch_id, [refusal(asked.bets[0])], first.sequence, 0)
            waiting = asyncio.create_task(journal.claim(asked))
            for _ in range(POLLS_MAX):
                if await connection.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")):
                    break
                await asyncio.sleep(POLL_SECONDS)
            assert not waiting.done()
        answer = await waiting
    assert (answer.bets, answer.refused) == (asked.bets[1:], (refusal(asked.bets[0]),))
    await ejecting.close()


async def test_a_batch_can_only_be_claimed_as_pending(journal: SqlJournal) -> None:
    asked = claim(some_bets(1)).model_copy(update={"transition": step(0, BatchStatus.PROVING)})
    with pytest.raises(IllegalTransition):
        await journal.claim(asked)
    assert await journal.batch(asked.batch_id) is None


async def test_a_batch_id_cannot_be_claimed_again_with_other_bets_or_on_another_lane(journal: SqlJournal) -> None:
    asked = claim(some_bets(2))
    await journal.claim(asked)
    for changed in (
        {"bets": asked.bets[:1]},
        {"bets": (*asked.bets, bet("more"))},
        {"bets": (asked.bets[0], bet(asked.bets[1].bet_id, stake=5))},
        {"bets": asked.bets[::-1]},
        {"lane": LANE + 1},
    ):
        with pytest.raises(JournalConflict, match="settlement-3-"):
            await journal.claim(asked.model_copy(update=changed))
    assert (await journal.claim(asked)).bets == asked.bets


async def test_a_claim_beyond_the_bounds_is_refused_whole(journal: SqlJournal) -> None:
    too_many = claim(some_bets(claiming.MAX_BETS_PER_CLAIM + 1))
    too_much = claim([bet("a", stake=2**63 - 1), bet("b", stake=1)])
    for asked in (too_many, too_much):
        with pytest.raises(JournalConflict):
            await journal.claim(asked)
        assert await journal.batch(asked.batch_id) is None
        assert await journal.bet(asked.bets[0].bet_id) is None


async def test_the_largest_stake_and_the_strangest_time_are_kept_exactly(journal: SqlJournal) -> None:
    east = timezone(timedelta(hours=14))
    strange = Bet(
        bet_id="a",
        player=PLAYERS[0],
        stake=2**63 - 1,
        guess="heads",
        outcome="tails",
        placed_at=datetime(1, 1, 1, tzinfo=east),
    )
    answer = await journal.claim(claim([strange]))
    assert answer.bets == (strange,)
    assert answer.bets[0].model_dump_json() == strange.model_dump_json()
    summary = await journal.batch(answer.batch_id)
    assert summary is not None
    assert summary.house_delta == 2**63 - 1


async def test_claims_at_once_get_consecutive_numbers_and_share_no_bet(url: str) -> None:
    """Two journals, so that the database's own locks are what holds, and lanes that fight over the same bets."""
    shared = some_bets(12)
    asked = [
        claim(
            [shared[(n + offset * 5) % 12] for offset in range(3)] + some_bets(2, f"own-{lane}-{n}"),
            lane=lane,
        )
        for n in range(12)
        for lane in (1, 2)
    ]
    async with SqlJournal.open(url) as one, SqlJournal.open(url) as other:
        answers = await asyncio.gather(*((one, other)[n // 2 % 2].claim(asked) for n, asked in enumerate(asked)))
        for lane in (1, 2):
            assert sorted(answer.number for answer in answers if answer.lane == lane) == list(range(1, 13))
        given = [found.bet_id for answer in answers for found in answer.bets]
        assert len(given) == len(set(given)) == 12 + 24 * 2
        for answer in answers:
            for found in answer.bets:
                owner = await one.bet(found.bet_id)
                assert owner is not None
                assert owner.batch_id == answer.batch_id
        assert all(answer.refused == () for answer in answers)
        assert await asyncio.gather(*(one.claim(asked) for asked in asked)) == answers


async def test_lanes_that_claim_the_same_bets_in_opposite_orders_do_not_deadlock(url: str) -> None:
    async with SqlJournal.open(url) as one, SqlJournal.open(url) as other:
        for attempt in range(5):
            bets = some_bets(200, f"b{attempt}")
            answers = await asyncio.gather(one.claim(claim(bets, lane=1)), other.claim(claim(bets[::-1], lane=2)))
            assert sorted(len(answer.bets) for answer in answers) == [0, 200]
            assert sorted(len(answer.duplicates) for answer in answers) == [0, 200]


async def test_one_claim_made_from_many_tasks_at_once_is_one_batch(url: str) -> None:
    asked = claim(some_bets(3))
    async with SqlJournal.open(url) as one, SqlJournal.open(url) as other:
        answers = await asyncio.gather(*(journal.claim(asked) for journal in (one, other) * 4))
    assert len({answer.model_dump_json() for answer in answers}) == 1
    assert answers[0].bets == asked.bets


async def test_killed_processes_leave_whole_claims_with_consecutive_numbers(own_url: str) -> None:
    """Several processes claim as fast as they can and are killed with SIGKILL in the middle of it."""
    acknowledged_before_kill = 5
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.journal.claimer", own_url, name, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        for name in ("x", "y")
    ]
    acknowledged: dict[str, int] = {}
    for process in processes:
        assert process.stdout is not None
        for _ in range(acknowledged_before_kill):
            batch, number = (await process.stdout.readline()).decode().split()
            acknowledged[batch] = int(number)
    for process in processes:
        process.kill()
    for process in processes:
        rest, _ = await process.communicate()
        # What was killed may have cut its last line.
        for line in rest.decode().splitlines(keepends=True):
            if line.endswith("\n"):
                batch, number = line.split()
                acknowledged[batch] = int(number)
    async with SqlJournal.open(own_url) as journal:
        held = await journal.batches(LANE, 0, 1_000)
        assert [summary.number for summary in held] == list(range(1, len(held) + 1))
        assert acknowledged.items() <= {summary.batch_id: summary.number for summary in held}.items()
        for summary in held:
            bets = [record.bet for record in await journal.bets_of(summary.batch_id)]
            name, n = bets[0].bet_id.split("-")[:2]
            assert bets == bets_of_batch(name, int(n))
            assert (await journal.claim(claim(bets))).number == summary.number
