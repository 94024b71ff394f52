"""Parks bets that a lane has no room for. Their positions are the order of their coming; none is given twice."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from journal.rows import bet_fields, bet_of
from journal.tables import bets, parked_bets
from journal.writing import insert_new, lock_lane
from settlement.lanes import ParkedPage, Parking, QueuedBet


async def park(connection: AsyncConnection, lane: int, above: int, asked: Sequence[QueuedBet]) -> Parking:
    """See `Journal.park`."""
    await lock_lane(connection, lane)
    ids = [queued.bet.bet_id for queued in asked]
    known: dict[str, tuple[str, datetime | None]] = {}
    rows = await connection.execute(select(bets.c.bet_id, bets.c.digest).where(bets.c.bet_id.in_(ids)))
    for row in rows.mappings():
        known[row["bet_id"]] = (row["digest"], None)
    of_lane = parked_bets.c.lane == lane
    rows = await connection.execute(
        select(parked_bets.c.bet_id, parked_bets.c.digest, parked_bets.c.since).where(
            of_lane, parked_bets.c.bet_id.in_(ids)
        )
    )
    for row in rows.mappings():
        known[row["bet_id"]] = (row["digest"], row["since"])
    highest: int | None = await connection.scalar(select(func.max(parked_bets.c.position)).where(of_lane))
    position = max(above, highest or 0)
    new: list[dict[str, Any]] = []
    duplicates = 0
    conflicts: list[str] = []
    for queued in asked:
        digest = queued.bet.digest.hex()
        found = known.get(queued.bet.bet_id)
        if found is None:
            position += 1
            new.append({**bet_fields(queued.bet), "lane": lane, "position": position, "since": queued.since})
        elif found[0] != digest:
            conflicts.append(queued.bet.bet_id)
        elif found[1] != queued.since:  # Else this very bet was written before, and the answer was lost.
            duplicates += 1
    await insert_new(connection, parked_bets, new)
    return Parking(parked=await _count(connection, lane, above), duplicates=duplicates, conflicts=tuple(conflicts))


async def parked(connection: AsyncConnection, lane: int, above: int, limit: int) -> ParkedPage:
    """See `Journal.parked`."""
    rows = await connection.execute(
        select(parked_bets)
        .where(parked_bets.c.lane == lane, parked_bets.c.position > above)
        .order_by(parked_bets.c.position)
        .limit(limit)
    )
    found = rows.mappings().all()
    last = int(found[-1]["position"]) if found else above
    return ParkedPage(
        bets=tuple(map(_queued_of, found)),
        last=last,
        left=await _count(connection, lane, last) if len(found) == limit else 0,
    )


async def unpark(connection: AsyncConnection, lane: int, up_to: int) -> None:
    """See `Journal.unpark`."""
    await connection.execute(delete(parked_bets).where(parked_bets.c.lane == lane, parked_bets.c.position <= up_to))


async def _count(connection: AsyncConnection, lane: int, above: int) -> int:
    count: int | None = await connection.scalar(
        select(func.count()).where(parked_bets.c.lane == lane, parked_bets.c.position > above)
    )
    return count or 0


def _queued_of(row: RowMapping) -> QueuedBet:
    return QueuedBet(bet=bet_of(row), since=row["since"], tracked=False)
