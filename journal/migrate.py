"""Brings a journal's schema to this program's version. Never takes it back: to go back, restore a backup.

Any number of processes may do this at once: the first does the work in one transaction while the others wait.
"""

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, text

from journal import schema
from journal.database import Database

MIGRATIONS: Final = Path(__file__).parent / "migrations"
ADVISORY_LOCK: Final = int.from_bytes(b"croupier", "big")
"""The key of the lock under which migrations run on PostgreSQL. SQLite's write lock does on its own."""


async def upgrade(url: str) -> None:
    """Creates the journal at `url` (see `Database`), or brings it up to date; an SQLite file is created, its directory is not.

    Raises `JournalMisconfigured`, also where the schema is of a newer program, or `JournalUnavailable`.
    """
    database = Database(url)
    try:
        await database.use_wal()
        async with database.write() as connection:
            if not database.is_sqlite:
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
            schema.check_not_newer(await schema.version(connection), database.name)
            await connection.run_sync(_upgrade)
    finally:
        await database.close()


def _upgrade(connection: Connection) -> None:
    # An eighth of the time that a command takes to start, of which most upgrade nothing.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
