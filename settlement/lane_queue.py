"""A lane's queue in memory: what is in it, what is known of it, what the next batch takes, what waits behind it. No bet is looked at twice.

Everything that must outlive a run is in the `BatcherState` that it works on; the rest follows from that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from settlement.bets import Bet
from settlement.lanes import BatcherState, Cut, ParkedPage, Parking, QueuedBet, RecentBatch
from settlement.limits import MAX_BETS_PER_UPDATE
from settlement.netting import Prefix

QUEUED_BATCHES: Final = 5
MIN_QUEUED_BETS: Final = 5 * MAX_BETS_PER_UPDATE
"""A queue is full with so many full batches, or with so many bets if these are more: updates are refused then, signalled bets parked."""

MAX_RECENT_BETS: Final = 2_000
"""Bets in batches whose ids the lane still knows; older duplicates are found by the journal."""

MIN_BETS_PER_PARKING: Final = 500
MAX_BETS_PER_PARKING: Final = 1_000
"""The overflow is parked once it has so many bets, and by so many at a time. One takes some 330 bytes at most, of Temporal's 2 MB."""

KNOWN_DIGEST_BYTES: Final = 16
"""Enough to tell contents of one bet id apart; the journal compares whole digests."""


def known_digest(bet: Bet) -> str:
    """What a lane knows a bet's content by."""
    return bet.digest[:KNOWN_DIGEST_BYTES].hex()


@dataclass(slots=True)
class KnownBet:
    """A bet that the lane took in. `batch_id`: None while it waits; `queued` only then. `is_behind`: it waits behind the queue."""

    digest: str
    batch_id: str | None = None
    queued: QueuedBet | None = None
    is_behind: bool = False


class LaneQueue:
    """The queue of one lane: bets come in at its end or behind it, and go out in batches."""

    def __init__(self, state: BatcherState, *, max_bets: int, max_players: int) -> None:
        self._state = state
        self._known: dict[str, KnownBet] = {}
        self._remembered = 0
        for queued in state.overflow:
            self._know(queued, known_digest(queued.bet), is_behind=True)
        for queued in state.queue:
            self._know(queued, known_digest(queued.bet), is_behind=False)
        for batch in state.recent:
            self._remember(batch)
        self.resize(max_bets=max_bets, max_players=max_players)

    def resize(self, *, max_bets: int, max_players: int) -> None:
        """From now on batches are cut within these bounds."""
        self._max_bets, self._max_players = max_bets, max_players
        self._prefix = Prefix(max_bets, max_players)

    # Taking in.

    @property
    def room(self) -> int:
        """How many bets it is full with."""
        return max(QUEUED_BATCHES * self._max_bets, MIN_QUEUED_BETS)

    @property
    def has_bets_behind(self) -> bool:
        """Whether bets wait behind it: then whatever comes later has to wait behind these."""
        return bool(self._state.parked or self._state.overflow)

    @property
    def is_full(self) -> bool:
        return len(self._state.queue) >= self.room

    @property
    def is_low(self) -> bool:
        """Whether it is time to let bets in from behind it."""
        return len(self._state.queue) <= self.room // 2

    def known(self, bet_id: str) -> KnownBet | None:
        """What is known of a bet; nothing of one that is parked."""
        return self._known.get(bet_id)

    def add(self, queued: QueuedBet, digest: str) -> None:
        """Puts a bet at its end."""
        self._state.queue.append(queued)
        self._know(queued, digest, is_behind=False)
        self._state.counters.accepted += 1

    def add_behind(self, queued: QueuedBet, digest: str) -> None:
        """Puts a bet that is not known behind it."""
        self._state.overflow.append(queued)
        self._know(queued, digest, is_behind=True)

    # Letting in what waits behind it. Each answers the bets that turn out to be conflicts.

    def let_in(self) -> list[QueuedBet]:
        """Lets in from the overflow as many as there is room for."""
        page, conflicts = self.first_behind(max(self.room - len(self._state.queue), 0))
        del self._state.overflow[: len(page)]
        for queued in page:
            self.add(queued, known_digest(queued.bet))
        return conflicts

    def first_behind(self, limit: int) -> tuple[list[QueuedBet], list[QueuedBet]]:
        """The first of the overflow, without those whose like was taken up from among the parked meanwhile; and what of these differs."""
        state = self._state
        first = state.overflow[:limit]
        page: list[QueuedBet] = []
        conflicts: list[QueuedBet] = []
        for queued in first:
            known = self._known.get(queued.bet.bet_id)
            if known is None or known.queued is queued:
                page.append(queued)
            elif known.digest == known_digest(queued.bet):
                state.counters.duplicates += 1
            else:
                conflicts.append(queued)
        if len(page) < len(first):
            state.overflow[: len(first)] = page
        return page, conflicts

    def note_parked(self, page: Sequence[QueuedBet], outcome: Parking) -> list[QueuedBet]:
        """The first of the overflow, `page`, are parked."""
        state = self._state
        del state.overflow[: len(page)]
        for queued in page:
            self._known.pop(queued.bet.bet_id, None)
        state.parked = outcome.parked
        state.counters.duplicates += outcome.duplicates
        conflicts = set(outcome.conflicts)
        return [queued for queued in page if queued.bet.bet_id in conflicts]

    def take_up(self, page: ParkedPage) -> list[QueuedBet]:
        """Takes parked bets back in. Those of the overflow came later."""
        state = self._state
        conflicts: list[QueuedBet] = []
        for queued in page.bets:
            digest, known = known_digest(queued.bet), self._known.get(queued.bet.bet_id)
            if known is None or known.is_behind:
                self.add(queued, digest)
            elif known.digest == digest:
                state.counters.duplicates += 1
            else:
                conflicts.append(queued)
        state.looked = True
        state.parked = page.left
        state.taken = max(state.taken, page.last)
        return conflicts

    # Cutting batches.

    @property
    def is_batch_full(self) -> bool:
        """Whether no bet more goes into the next batch."""
        return self._next().is_full

    @property
    def next_bets(self) -> int:
        """How many bets the next batch takes, if it is cut now."""
        return self._next().count

    def cut(self, lane: int) -> tuple[str, Cut]:
        """Takes the next batch out of the queue, to be started; answers its id too."""
        state, count = self._state, self.next_bets
        cut = Cut(bets=state.queue[:count], after=tuple(state.in_flight))
        del state.queue[:count]
        self._prefix = Prefix(self._max_bets, self._max_players)
        batch_id = cut.batch_id(lane)
        digests = {queued.bet.bet_id: self._known[queued.bet.bet_id].digest for queued in cut.bets}
        batch = RecentBatch(batch_id=batch_id, digests=digests)
        self._remember(batch)
        state.recent.append(batch)
        while self._remembered > MAX_RECENT_BETS:
            self._forget(state.recent.pop(0))
        state.cuts.append(cut)
        state.in_flight[batch_id] = count
        state.counters.batches += 1
        return batch_id, cut

    def _next(self) -> Prefix:
        queue, prefix = self._state.queue, self._prefix
        while not prefix.is_full and prefix.count < len(queue):
            prefix.take(queue[prefix.count].bet)
        return prefix

    def _know(self, queued: QueuedBet, digest: str, *, is_behind: bool) -> None:
        self._known[queued.bet.bet_id] = KnownBet(digest, queued=queued, is_behind=is_behind)

    def _remember(self, batch: RecentBatch) -> None:
        self._remembered += len(batch.digests)
        for bet_id, digest in batch.digests.items():
            self._known[bet_id] = KnownBet(digest, batch.batch_id)

    def _forget(self, batch: RecentBatch) -> None:
        self._remembered -= len(batch.digests)
        for bet_id in batch.digests:
            known = self._known.get(bet_id)
            if known is not None and known.batch_id == batch.batch_id:
                del self._known[bet_id]
