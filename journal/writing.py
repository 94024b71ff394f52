"""What all writes share: inserting what is not there yet, and the locks under which they look before they write."""

from typing import Any

from sqlalchemy import Insert, RowMapping, Table, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from journal.tables import batches, lanes
from settlement.errors import BatchUnknown, NumberInUse


def insert_if_new(connection: AsyncConnection, table: Table) -> Insert:
    """An insert that leaves out rows whose keys are taken. It waits for a concurrent insert of the same key to end."""
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    return insert(table).on_conflict_do_nothing()


async def insert_new(connection: AsyncConnection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Inserts those of `rows` whose keys are free."""
    if rows:
        await connection.execute(insert_if_new(connection, table), rows)


async def lock_lane(connection: AsyncConnection, lane: int) -> int:
    """Locks the lane until the transaction ends and answers its last number: see `journal.tables.lanes`.

    Whoever locks a lane and a batch locks the lane first.
    """
    await insert_new(connection, lanes, [{"lane": lane, "last_number": 0}])
    rows = await connection.execute(select(lanes.c.last_number).where(lanes.c.lane == lane).with_for_update())
    return int(rows.scalar_one())


async def note_last_number(connection: AsyncConnection, lane: int, number: int) -> None:
    """Notes the last number of a locked lane."""
    await connection.execute(lanes.update().where(lanes.c.lane == lane).values(last_number=number))


async def free_number(connection: AsyncConnection, lane: int, above: int) -> int:
    """The first number of a locked lane above `above` and above all that its batches have."""
    highest: int | None = await connection.scalar(select(func.max(batches.c.number)).where(batches.c.lane == lane))
    return max(above, highest or 0) + 1


async def require_free(connection: AsyncConnection, batch_id: str, lane: int, number: int) -> None:
    """Raises `NumberInUse` if another batch of a locked lane has the number."""
    owner: str | None = await connection.scalar(
        select(batches.c.batch_id).where(batches.c.lane == lane, batches.c.number == number)
    )
    if owner not in (None, batch_id):
        raise NumberInUse(
            f"batch {batch_id} had number {number} of lane {lane}, which the journal has given to batch {owner} since it was"
            " restored from an older copy; this passes once the chain has settled one of them"
        )


async def lock_batch(connection: AsyncConnection, batch_id: str) -> RowMapping:
    """Locks the batch until the transaction ends. Raises `BatchUnknown` if there is none."""
    rows = await connection.execute(select(batches).where(batches.c.batch_id == batch_id).with_for_update())
    batch = rows.mappings().one_or_none()
    if batch is None:
        raise BatchUnknown(f"the journal holds no batch {batch_id}: claim it first")
    return batch
