"""What all writes share: inserting what is not there yet, and the locks under which they look before they write."""

from typing import Any, Final

from sqlalchemy import ColumnElement, Insert, RowMapping, Table, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from journal.tables import batches, lanes
from settlement.errors import BatchUnknown, NumberInUse

# Statements of every batch are built once: building one costs more than SQLite needs to run it.
_LOCK_LANE: Final = select(lanes.c.last_number).where(lanes.c.lane == bindparam("lane")).with_for_update()
_LOCK_BATCH: Final = select(batches).where(batches.c.batch_id == bindparam("batch_id")).with_for_update()


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
    last_number: int | None = await connection.scalar(_LOCK_LANE, {"lane": lane})
    if last_number is None:
        # Of several that use a lane first, one inserts it; the others wait for that, and then for its lock.
        await insert_new(connection, lanes, [{"lane": lane, "last_number": 0}])
        return (await connection.execute(_LOCK_LANE, {"lane": lane})).scalar_one()
    return last_number


async def free_number(connection: AsyncConnection, lane: int, above: int) -> int:
    """The first number of a locked lane above `above` and above all that its batches have."""
    return (await connection.execute(select(_free_number(lane, above)))).scalar_one()


async def take_number(connection: AsyncConnection, lane: int, above: int) -> int:
    """Notes `free_number` as the last of a locked lane, and answers it."""
    noting = lanes.update().where(lanes.c.lane == lane).values(last_number=_free_number(lane, above))
    return (await connection.execute(noting.returning(lanes.c.last_number))).scalar_one()


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
    """Locks the batch until the transaction ends and answers its row. Raises `BatchUnknown` if there is none."""
    batch = await lock_batch_if_known(connection, batch_id)
    if batch is None:
        raise BatchUnknown(f"the journal holds no batch {batch_id}: claim it first")
    return batch


async def lock_batch_if_known(connection: AsyncConnection, batch_id: str) -> RowMapping | None:
    """As `lock_batch`, but answers None if there is none."""
    rows = await connection.execute(_LOCK_BATCH, {"batch_id": batch_id})
    return rows.mappings().one_or_none()


def _free_number(lane: int, above: int) -> ColumnElement[int]:
    highest = select(func.max(batches.c.number)).where(batches.c.lane == lane, batches.c.number > above)
    return func.coalesce(highest.scalar_subquery(), above) + 1
