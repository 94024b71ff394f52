"""Which version of the schema a database holds, and whether this program may work on it."""

from sqlalchemy import Column, MetaData, Table, Text, select
from sqlalchemy.ext.asyncio import AsyncConnection

from journal.tables import SCHEMA_VERSION
from settlement.errors import JournalMisconfigured

# Alembic's own table, of one row.
_alembic_version = Table("alembic_version", MetaData(), Column("version_num", Text))


async def version(connection: AsyncConnection) -> str | None:
    """The version in the database; None if it holds no journal."""
    exists = await connection.run_sync(lambda sync: sync.dialect.has_table(sync, _alembic_version.name))
    return (await connection.execute(select(_alembic_version.c.version_num))).scalar() if exists else None


def check(found: str | None, journal: str) -> None:
    """Raises `JournalMisconfigured` unless `found` is the version of this program."""
    if found is None:
        raise JournalMisconfigured(f"journal {journal}: it has no tables yet: run `python starter.py provision`")
    check_not_newer(found, journal)
    if found != SCHEMA_VERSION:
        raise JournalMisconfigured(
            f"journal {journal}: its schema is version {found}, this program needs {SCHEMA_VERSION}: run `python starter.py provision`"
        )


def check_not_newer(found: str | None, journal: str) -> None:
    """Raises `JournalMisconfigured` if `found` is later than the version of this program."""
    if found is not None and found > SCHEMA_VERSION:
        raise JournalMisconfigured(
            f"journal {journal}: its schema is version {found}, this program knows only {SCHEMA_VERSION}: update the program"
        )
