"""A lane's queue in memory: what comes in front of what, what is known, and what is forgotten."""

from datetime import UTC, datetime

from settlement.bets import Bet
from settlement.lane_queue import MAX_RECENT_BETS, MIN_QUEUED_BETS, LaneQueue, known_digest
from settlement.lanes import BatcherState, ParkedPage, Parking, QueuedBet
from tests.domain.samples import PLAYERS, bet

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def queued(*bets: Bet) -> list[QueuedBet]:
    return [QueuedBet(bet=bet, since=NOON, tracked=False) for bet in bets]


def numbered(count: int, prefix: str = "bet", stake: int = 1) -> list[QueuedBet]:
    return queued(*(bet(f"{prefix}-{n}", player=PLAYERS[n % len(PLAYERS)], stake=stake) for n in range(count)))


def lane_queue(state: BatcherState, max_bets: int = 4) -> LaneQueue:
    return LaneQueue(state, max_bets=max_bets, max_players=len(PLAYERS))


def ids(bets: list[QueuedBet]) -> list[str]:
    return [queued.bet.bet_id for queued in bets]


def test_batches_are_cut_in_order_and_their_bets_stay_known_with_their_batch() -> None:
    state = BatcherState()
    queue = lane_queue(state)
    bets = numbered(6)
    for one in bets:
        queue.add(one, known_digest(one.bet))
    assert (queue.is_batch_full, queue.next_bets) == (True, 4)
    batch_id, cut = queue.cut(0)
    assert (ids(cut.bets), ids(state.queue)) == (ids(bets[:4]), ids(bets[4:]))
    assert (queue.is_batch_full, queue.next_bets) == (False, 2)
    known = queue.known("bet-0")
    assert known is not None
    assert known.batch_id == batch_id
    assert state.in_flight == {batch_id: 4}
    assert queue.cut(0)[1].after == (batch_id,)


def test_what_is_known_is_the_same_after_the_state_was_carried_to_another_run() -> None:
    state = BatcherState()
    queue = lane_queue(state)
    for one in numbered(6):
        queue.add(one, known_digest(one.bet))
    (behind,) = numbered(1, "behind")
    queue.add_behind(behind, known_digest(behind.bet))
    batch_id, _ = queue.cut(0)
    again = lane_queue(BatcherState.model_validate_json(state.model_dump_json()))
    for one in (*numbered(6), behind):
        before, after = queue.known(one.bet.bet_id), again.known(one.bet.bet_id)
        assert before is not None
        assert after is not None
        assert (before.digest, before.batch_id, before.is_behind) == (after.digest, after.batch_id, after.is_behind)
    known = again.known("bet-3")
    assert known is not None
    assert known.batch_id == batch_id


def test_only_the_latest_bets_in_batches_stay_known() -> None:
    state = BatcherState()
    queue = lane_queue(state, max_bets=100)
    for one in numbered(MAX_RECENT_BETS + 100):
        queue.add(one, known_digest(one.bet))
    while state.queue:
        queue.cut(0)
    assert queue.known("bet-99") is None
    assert queue.known("bet-100") is not None
    assert sum(len(batch.digests) for batch in state.recent) == MAX_RECENT_BETS


def test_what_waits_behind_comes_in_in_order_as_far_as_there_is_room() -> None:
    state = BatcherState(queue=numbered(MIN_QUEUED_BETS - 2, "first"), overflow=numbered(3, "behind"))
    queue = lane_queue(state)
    assert queue.let_in() == []
    assert ids(state.queue)[-2:] == ["behind-0", "behind-1"]
    assert ids(state.overflow) == ["behind-2"]


def test_what_is_parked_is_known_no_more_and_the_journal_says_what_was_a_conflict() -> None:
    state = BatcherState(overflow=numbered(3))
    queue = lane_queue(state)
    page, _ = queue.first_behind(2)
    conflicts = queue.note_parked(page, Parking(parked=1, duplicates=0, conflicts=("bet-1",)))
    assert (ids(conflicts), ids(state.overflow), state.parked) == (["bet-1"], ["bet-2"], 1)
    assert queue.known("bet-0") is None
    assert queue.known("bet-2") is not None


def test_a_parked_bet_keeps_its_place_before_its_like_that_was_sent_again_behind() -> None:
    same, *others = [*numbered(1), *numbered(2, "other")]
    (differs,) = numbered(1, stake=9)
    state = BatcherState(looked=True, parked=2, overflow=[same, *others])
    queue = lane_queue(state)
    page = ParkedPage(bets=tuple(numbered(1)), last=7, left=1)
    assert queue.take_up(page) == []
    assert (ids(state.queue), state.parked, state.taken) == (["bet-0"], 1, 7)
    assert queue.first_behind(10) == (others, [])
    assert state.counters.duplicates == 1

    state = BatcherState(looked=True, parked=1, overflow=[differs, *others])
    queue = lane_queue(state)
    assert queue.take_up(page) == []
    assert queue.first_behind(10) == (others, [differs])
    assert state.overflow == others


def test_a_parked_bet_that_is_taken_up_twice_comes_in_once() -> None:
    state = BatcherState()
    queue = lane_queue(state)
    page = ParkedPage(bets=tuple(numbered(2)), last=2, left=0)
    queue.take_up(page)
    queue.take_up(page)
    assert ids(state.queue) == ["bet-0", "bet-1"]
    assert (state.counters.accepted, state.counters.duplicates) == (2, 2)
    other = ParkedPage(bets=tuple(numbered(1, stake=9)), last=3, left=0)
    assert ids(queue.take_up(other)) == ["bet-0"]
