"""What a stack's journal says of a run: when each batch came to each status, and how its bets ended. Reads only."""

import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from settlement.batches import BetStatus
from settlement.lifecycle import BatchStatus

BUSY_SECONDS: Final = 30.0


@dataclass(frozen=True)
class SettledBatch:
    """A batch that is Confirmed. `at`: when it first came to each status, in seconds since the epoch. `slot`: in which it landed."""

    batch_id: str
    first_bet: str
    bets: int
    players: int
    slot: int
    at: dict[BatchStatus, float]

    @property
    def confirmed_at(self) -> float:
        return self.at[BatchStatus.CONFIRMED]


def settled_batches(journal: Path, ids_from: str = "") -> list[SettledBatch]:
    """Batches with settled bets whose ids begin with `ids_from`, in the order of their confirmation."""
    with _reading(journal) as database:
        rows = database.execute(
            "SELECT batch_id, min(bet_id), count(*), count(DISTINCT player), slot FROM bets JOIN batches USING (batch_id)"
            " WHERE bets.status = ? AND bet_id GLOB ? GROUP BY batch_id",
            (BetStatus.SETTLED.value, f"{ids_from}*"),
        ).fetchall()
        at: dict[str, dict[BatchStatus, float]] = {batch_id: {} for batch_id, *_ in rows}
        for batch_id, status, moment in database.execute(
            "SELECT batch_id, status, at FROM transitions ORDER BY batch_id, sequence"
        ):
            if batch_id in at:
                at[batch_id].setdefault(BatchStatus(status), _seconds(moment))
    batches = [SettledBatch(*row, at=at[row[0]]) for row in rows]
    return sorted(batches, key=lambda batch: batch.confirmed_at)


def confirmed_at(journal: Path) -> dict[str, float]:
    """When each settled bet's batch was Confirmed, in seconds since the epoch."""
    with _reading(journal) as database:
        rows = database.execute(
            "SELECT bet_id, at FROM bets JOIN transitions USING (batch_id) WHERE bets.status = ? AND transitions.status = ?",
            (BetStatus.SETTLED.value, BatchStatus.CONFIRMED.value),
        )
        return {bet_id: _seconds(moment) for bet_id, moment in rows}


def settled_bets(journal: Path) -> int:
    """How many bets are settled, by their batches; cheap enough to ask often."""
    with _reading(journal) as database:
        [(count,)] = database.execute(
            "SELECT coalesce(sum(bet_count), 0) FROM batches WHERE status = ?", (BatchStatus.CONFIRMED.value,)
        )
        return int(count)


def bets_by_status(journal: Path) -> dict[str, int]:
    """How many bets the journal holds in each status."""
    with _reading(journal) as database:
        return dict(database.execute("SELECT status, count(*) FROM bets GROUP BY status"))


def size_bytes(journal: Path) -> int:
    """All pages of the database, wherever they are kept at this moment."""
    with _reading(journal) as database:
        [(size,)] = database.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
        return int(size)


def rejections(journal: Path) -> int:
    """What never became a bet of a batch."""
    with _reading(journal) as database:
        return int(database.execute("SELECT count(*) FROM rejections").fetchone()[0])


@contextmanager
def _reading(journal: Path) -> Generator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True, timeout=BUSY_SECONDS)) as database:
        yield database


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()
