"""What all writes share: inserting what is not there yet, and the locks under which they look before they write."""

from typing import Any

from sqlalchemy import Insert, RowMapping, Table, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from journal.tables import batches, lanes
from settlement.errors import JournalConflict


def insert_if_new(connection: AsyncConnection, table: Table) -> Insert:
    """An insert that leaves out rows whose keys are taken. It waits for a concurrent insert of the same key to end."""
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    return insert(table).on_conflict_do_nothing()


async def insert_new(connection: AsyncConnection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Inserts those of `rows` whose keys are free."""
    if rows:
        await connection.execute(insert_if_new(connection, table), rows)


async def lock_lane(connection: AsyncConnection, lane: int) -> int:
    """Locks the lane until the transaction ends and answers the last number given on it.

    Whoever locks a lane and a batch locks the lane first.
    """
    await insert_new(connection, lanes, [{"lane": lane, "last_number": 0}])
    rows = await connection.execute(select(lanes.c.last_number).where(lanes.c.lane == lane).with_for_update())
    return int(rows.scalar_one())


async def give_number(connection: AsyncConnection, lane: int, number: int) -> None:
    """Notes the last number given on a locked lane."""
    await connection.execute(lanes.update().where(lanes.c.lane == lane).values(last_number=number))


async def lock_batch(connection: AsyncConnection, batch_id: str) -> RowMapping:
    """Locks the batch until the transaction ends. Raises `JournalConflict` if there is none."""
    rows = await connection.execute(select(batches).where(batches.c.batch_id == batch_id).with_for_update())
    batch = rows.mappings().one_or_none()
    if batch is None:
        raise JournalConflict(f"the journal holds no batch {batch_id}: claim it first")
    return batch
