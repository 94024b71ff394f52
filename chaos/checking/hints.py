"""Which bets made up a batch, as the journal would have it: its SQLite file, opened for reading only.

It must never be believed: what it says counts only once a root on chain follows from it. It may lie, lag or be garbled.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from chaos.checking.bets import Bet, BetLine
from chaos.checking.errors import CannotJudge

REJECTED: Final = "rejected"
LOCK_WAIT_SECONDS: Final = 30.0
"""A journal whose last writer was killed is locked while the first to open it brings it into order."""

_QUERY: Final = (
    "SELECT batch_id, status, decided_at, bet_id, player, stake, guess, outcome FROM bets ORDER BY batch_id, position"
)


class _Place(NamedTuple):
    """A bet in a batch; `rejected_at`: when it was taken out again, as text that sorts by time."""

    bet: Bet
    rejected_at: str | None


class BatchHint(NamedTuple):
    """A batch as the journal has it."""

    places: tuple[_Place, ...]

    @property
    def bets(self) -> tuple[Bet, ...]:
        """What is left of the batch."""
        return tuple(place.bet for place in self.places if place.rejected_at is None)

    @property
    def earlier(self) -> Iterator[tuple[Bet, ...]]:
        """What the batch was before bets were taken out of it, the latest state first."""
        for moment in sorted(
            {place.rejected_at for place in self.places if place.rejected_at is not None}, reverse=True
        ):
            yield tuple(place.bet for place in self.places if place.rejected_at is None or place.rejected_at >= moment)


def batches_of(journal: Path) -> Iterator[BatchHint]:
    """One batch at a time. Rows that hold no bet are left out. Raises `CannotJudge` if the file is no journal."""
    if not journal.is_file():
        raise CannotJudge(f"{journal}: there is no such file: name the journal's SQLite file")
    try:
        with closing(
            sqlite3.connect(f"{journal.resolve().as_uri()}?mode=ro", uri=True, timeout=LOCK_WAIT_SECONDS)
        ) as connection:
            for _, rows in groupby(connection.execute(_QUERY), key=itemgetter(0)):
                places = tuple(place for row in rows if (place := _place_of(row)) is not None)
                if places:
                    yield BatchHint(places)
    except sqlite3.Error as error:
        raise CannotJudge(f"{journal} cannot be read as a journal: {error}") from None


def _place_of(row: tuple[Any, ...]) -> _Place | None:
    _, status, decided_at, bet_id, player, stake, guess, outcome = row
    try:
        line = BetLine.model_validate(
            {"bet_id": bet_id, "player": player, "stake": stake, "guess": guess, "outcome": outcome}
        )
    except ValidationError:
        return None
    return _Place(line.bet, str(decided_at) if status == REJECTED else None)
