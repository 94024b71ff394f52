"""The migrations make the schema that the code expects, however many processes run them, and protect what is append-only."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, event
from sqlalchemy.engine import ExceptionContext

from journal import database as database_module
from journal import tables
from journal.adapter import SqlJournal
from journal.database import Database
from journal.migrate import MIGRATIONS, upgrade
from settlement.errors import JournalConflict, JournalMisconfigured
from tests.journal.conftest import PostgresServer
from tests.journal.samples import attempt, claim, proof, rejection, run, some_bets, statement


async def test_migrations_make_exactly_the_schema_of_the_tables(url: str) -> None:
    def differences(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "target_metadata": tables.metadata}
        )
        return list(compare_metadata(context, tables.metadata))

    database = Database(url)
    async with database.read() as connection:
        assert await connection.run_sync(differences) == []
    await database.close()


def test_the_code_names_the_newest_migration_as_its_version() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [tables.SCHEMA_VERSION]


async def test_upgrading_an_up_to_date_journal_changes_nothing(url: str) -> None:
    async with SqlJournal.open(url) as journal:
        claimed = await journal.claim(claim(some_bets(2)))
        await upgrade(url)
        assert await journal.claim(claim(some_bets(2))) == claimed


async def test_many_upgrades_at_once_make_one_journal(postgres: PostgresServer, tmp_path: Path) -> None:
    for url in (f"sqlite:///{tmp_path / 'new.db'}", await postgres.new_database()):
        await asyncio.gather(*(upgrade(url) for _ in range(4)))
        async with SqlJournal.open(url) as journal:
            assert (await journal.claim(claim(some_bets(1)))).number == 1


async def test_a_sqlite_journal_is_in_wal_mode_and_commits_outlive_a_loss_of_power(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock_wait = 1_234  # neither the driver's default nor ours, which the scenarios shorten for their whole process
    monkeypatch.setattr(database_module, "LOCK_WAIT_MILLISECONDS", lock_wait)
    database = Database(sqlite_url)
    async with database.write() as connection:
        settings = {
            name: (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    await database.close()
    full = 2
    assert settings == {"journal_mode": "wal", "synchronous": full, "foreign_keys": 1, "busy_timeout": lock_wait}


async def test_a_restored_file_that_lost_wal_mode_gets_it_back_once_its_writer_is_done(sqlite_url: str) -> None:
    """SQLite refuses the change at once while another writes, however long it may wait for locks."""
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("PRAGMA journal_mode = DELETE")
    other.execute("BEGIN IMMEDIATE")
    database = Database(sqlite_url)
    refused = asyncio.Event()

    def note(_: ExceptionContext) -> None:
        refused.set()

    event.listen(database.engine.sync_engine, "handle_error", note)
    change = asyncio.create_task(database.use_wal())
    await asyncio.wait_for(refused.wait(), timeout=10)
    other.execute("COMMIT")
    await change
    async with database.read() as connection:
        assert (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar_one() == "wal"
    other.close()
    await database.close()


@pytest.mark.parametrize("table", [table.name for table in tables.APPEND_ONLY])
@pytest.mark.parametrize("change", ["UPDATE {} SET {} = NULL", "DELETE FROM {}"], ids=["update", "delete"])
async def test_what_is_append_only_can_be_neither_changed_nor_removed(
    url: str, journal: SqlJournal, table: str, change: str
) -> None:
    claimed = await journal.claim(claim(some_bets(1)))
    await journal.record_statement(claimed.batch_id, statement(claimed), proof(statement(claimed)))
    await journal.record_attempt(claimed.batch_id, attempt(claimed))
    await journal.record_rejections([rejection("a")])
    await run(
        url,
        "INSERT INTO reconciliations VALUES ('r', 1, '2026-01-31 12:00:00', 1, 1, 0, 1)",
        "INSERT INTO findings VALUES ('r', 1, 0, 'kind', 'subject', 'journal', 'chain')",
    )
    last_column = tables.metadata.tables[table].columns.keys()[-1]
    with pytest.raises(JournalConflict, match="append-only"):
        await run(url, change.format(table, last_column))


class TestOpening:
    async def test_without_a_journal_says_to_provision(self, postgres: PostgresServer, tmp_path: Path) -> None:
        empty = tmp_path / "empty.db"
        empty.touch()
        for url in (f"sqlite:///{tmp_path / 'none.db'}", f"sqlite:///{empty}", await postgres.new_database()):
            with pytest.raises(JournalMisconfigured, match=r"starter\.py provision"):
                async with SqlJournal.open(url):
                    pass
        assert not (tmp_path / "none.db").exists()

    @pytest.mark.parametrize(("version", "remedy"), [("9999", "update the program"), ("0000", "starter.py provision")])
    async def test_another_schema_version_is_refused(self, own_url: str, version: str, remedy: str) -> None:
        await run(own_url, f"UPDATE alembic_version SET version_num = '{version}'")
        with pytest.raises(JournalMisconfigured, match=f"version {version}, .*{remedy}"):
            async with SqlJournal.open(own_url):
                pass

    async def test_a_newer_journal_is_not_migrated(self, own_url: str) -> None:
        await run(own_url, "UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(JournalMisconfigured, match="update the program"):
            await upgrade(own_url)

    async def test_a_missing_directory_is_named_and_not_created(self, tmp_path: Path) -> None:
        directory = tmp_path / "missing"
        for opening in (upgrade(f"sqlite:///{directory}/journal.db"), _open(f"sqlite:///{directory}/journal.db")):
            with pytest.raises(JournalMisconfigured, match=f"no directory {directory}: create it"):
                await opening
        assert not directory.exists()

    @pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
    async def test_a_journal_in_memory_is_refused(self, url: str) -> None:
        with pytest.raises(JournalMisconfigured, match="would be lost"):
            await upgrade(url)

    @pytest.mark.parametrize(
        "url", ["mysql://me:secret@host/db", "me:secret@host", "", "postgresql://me:secret@host:x/db"]
    )
    async def test_a_url_of_no_use_is_refused_without_showing_it(self, url: str) -> None:
        with pytest.raises(JournalMisconfigured, match="must be sqlite:///<path> or postgresql://") as refused:
            await upgrade(url)
        assert "secret" not in str(refused.value)

    async def test_an_option_that_does_not_exist_is_named_but_not_its_value(self) -> None:
        with pytest.raises(JournalMisconfigured, match="sslmode") as refused:
            await upgrade("postgresql://me@host/db?sslmode=require&password=secret")
        assert "secret" not in str(refused.value)


async def _open(url: str) -> None:
    async with SqlJournal.open(url):
        pass
