"""Parked bets: kept in the order of their coming, each once, however often they are written; and gone only once they were taken."""

from datetime import UTC, datetime, timedelta

from journal.adapter import SqlJournal
from settlement.bets import Bet
from settlement.lanes import Parking, QueuedBet
from tests.journal.samples import claim, some_bets

NOON = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
LANE = 1


def queued(bets: list[Bet], since: datetime = NOON) -> list[QueuedBet]:
    return [QueuedBet(bet=bet, since=since, tracked=False) for bet in bets]


async def test_bets_come_back_as_they_were_in_pages_in_the_order_of_their_coming(journal: SqlJournal) -> None:
    bets = queued(some_bets(7)[::-1])
    assert await journal.park(LANE, 0, bets[:4]) == Parking(parked=4)
    assert await journal.park(LANE, 0, bets[4:]) == Parking(parked=7)
    first = await journal.parked(LANE, 0, 5)
    assert (list(first.bets), first.left) == (bets[:5], 2)
    second = await journal.parked(LANE, first.last, 5)
    assert (list(second.bets), second.left) == (bets[5:], 0)
    assert (await journal.parked(LANE, second.last, 5)).bets == ()


async def test_lanes_park_their_own(journal: SqlJournal) -> None:
    bets = queued(some_bets(2))
    await journal.park(LANE, 0, bets)
    assert await journal.park(LANE + 1, 0, bets[:1]) == Parking(parked=1)
    await journal.unpark(LANE, 9)
    assert (await journal.parked(LANE, 0, 5)).bets == ()
    assert list((await journal.parked(LANE + 1, 0, 5)).bets) == bets[:1]


async def test_writing_again_what_was_written_changes_nothing_and_is_no_duplicate(journal: SqlJournal) -> None:
    bets = queued(some_bets(3))
    await journal.park(LANE, 0, bets)
    assert await journal.park(LANE, 0, bets) == Parking(parked=3)
    assert list((await journal.parked(LANE, 0, 9)).bets) == bets


async def test_a_bet_that_came_again_is_a_duplicate_and_other_content_under_its_id_a_conflict(
    journal: SqlJournal,
) -> None:
    bets = some_bets(2)
    await journal.park(LANE, 0, queued(bets))
    other = bets[1].model_copy(update={"stake": bets[1].stake + 1})
    again = queued([bets[0], other], NOON + timedelta(seconds=1))
    assert await journal.park(LANE, 0, again) == Parking(parked=2, duplicates=1, conflicts=(other.bet_id,))
    assert list((await journal.parked(LANE, 0, 9)).bets) == queued(bets)


async def test_a_bet_that_a_batch_has_claimed_is_not_parked(journal: SqlJournal) -> None:
    bets = some_bets(2)
    await journal.claim(claim(bets))
    other = bets[1].model_copy(update={"stake": bets[1].stake + 1})
    parked = await journal.park(LANE, 0, queued([bets[0], other]))
    assert parked == Parking(parked=0, duplicates=1, conflicts=(other.bet_id,))


async def test_a_position_that_was_taken_is_never_given_again(journal: SqlJournal) -> None:
    bets = queued(some_bets(4))
    await journal.park(LANE, 0, bets[:2])
    taken = (await journal.parked(LANE, 0, 9)).last
    await journal.unpark(LANE, taken)
    assert await journal.park(LANE, taken, bets[2:]) == Parking(parked=2)
    # A removal that was thought lost is done late.
    await journal.unpark(LANE, taken)
    assert list((await journal.parked(LANE, taken, 9)).bets) == bets[2:]
