"""What goes wrong with a database reaches the domain as its own errors, with a remedy and without a password."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.pool import ConnectionPoolEntry

from journal import database as database_module
from journal.adapter import SqlJournal
from journal.database import Database
from journal.migrate import upgrade
from settlement.errors import JournalConflict, JournalMisconfigured, JournalUnavailable
from tests.journal.conftest import PostgresServer
from tests.journal.samples import LANE, claim, run, some_bets

POLLS_MAX = 500
POLL_SECONDS = 0.01


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes journals opened from now on give up on a lock soon."""
    monkeypatch.setattr(database_module, "LOCK_WAIT_MILLISECONDS", 50)


@asynccontextmanager
async def _sqlite_with(url: str, pragma: str) -> AsyncGenerator[SqlJournal, None]:
    """A journal whose connections run `pragma` first."""

    def set_up(connection: Any, _: ConnectionPoolEntry) -> None:
        connection.cursor().execute(pragma)

    database = Database(url)
    event.listen(database.engine.sync_engine, "connect", set_up)
    yield SqlJournal(database)
    await database.close()


async def test_a_lock_held_too_long_by_another_is_unavailability_and_passes(url: str, impatient: None) -> None:
    del impatient
    holder = Database(url)
    async with SqlJournal.open(url) as journal:
        await journal.claim(claim(some_bets(1, "before")))
        async with holder.write() as connection:
            await connection.execute(text("UPDATE lanes SET last_number = last_number"))
            with pytest.raises(JournalUnavailable, match="locked by another process"):
                await journal.claim(claim(some_bets(1)))
            assert len(await journal.batches(LANE, 0, 10)) == 1
        assert (await journal.claim(claim(some_bets(1)))).number == 2
    await holder.close()


async def test_a_read_only_sqlite_file_is_unavailability(sqlite_url: str) -> None:
    async with _sqlite_with(sqlite_url, "PRAGMA query_only = ON") as journal:
        assert await journal.recent_batches(1) == []
        with pytest.raises(JournalUnavailable, match="read-only"):
            await journal.claim(claim(some_bets(1)))


async def test_a_full_disk_is_unavailability_and_leaves_nothing_half_written(sqlite_url: str) -> None:
    async with _sqlite_with(sqlite_url, "PRAGMA max_page_count = 1") as journal:
        with pytest.raises(JournalUnavailable, match="disk is full"):
            await journal.claim(claim(some_bets(900)))
        assert await journal.recent_batches(1) == []


async def test_a_read_only_server_is_unavailability(postgres: PostgresServer, own_postgresql_url: str) -> None:
    name = own_postgresql_url.split("@/")[1].split("?")[0]
    await postgres.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    async with SqlJournal.open(own_postgresql_url) as journal:
        with pytest.raises(JournalUnavailable, match="read-only"):
            await journal.claim(claim(some_bets(1)))


async def test_a_connection_lost_in_the_middle_is_unavailability_and_the_next_call_reconnects(
    postgres: PostgresServer, postgresql_url: str
) -> None:
    holder = Database(postgresql_url)
    async with SqlJournal.open(postgresql_url) as journal:
        await journal.claim(claim(some_bets(1, "before")))
        async with holder.write() as connection:
            await connection.execute(text("UPDATE lanes SET last_number = last_number"))
            waiting = asyncio.create_task(journal.claim(claim(some_bets(1))))
            for _ in range(POLLS_MAX):
                killed = await connection.execute(
                    text("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()")
                )
                if killed.first() is not None:
                    break
                await asyncio.sleep(POLL_SECONDS)
            with pytest.raises(JournalUnavailable, match=r"connection to the journal was lost"):
                await waiting
        assert (await journal.claim(claim(some_bets(1)))).number == 2
        # All idle connections die too: the pool must notice before it hands them out.
        await postgres.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'croupier' AND datname IS NOT NULL"
        )
        assert (await journal.claim(claim(some_bets(1, "after")))).number == 3
    await holder.close()


async def test_a_server_that_is_not_there_is_unavailability_without_the_password(tmp_path: Path) -> None:
    for host in (f"/journal?host={tmp_path}", "127.0.0.1:1/journal"):
        url = f"postgresql://me:secret@{host}"
        for opening in (upgrade(url), _open(url)):
            with pytest.raises(JournalUnavailable, match="check that its server runs") as failure:
                await opening
            assert "secret" not in str(failure.value)
            assert "postgresql://" in str(failure.value)


async def test_a_database_that_is_not_on_the_server_is_named(postgres: PostgresServer) -> None:
    with pytest.raises(JournalMisconfigured, match="/nowhere: the journal's database does not exist"):
        await _open(postgres.url("nowhere"))


async def test_a_refused_user_is_misconfiguration(postgresql_url: str) -> None:
    with pytest.raises(JournalMisconfigured, match="refuses the user"):
        await _open(postgresql_url.replace("postgres@", "stranger:secret@"))


@pytest.mark.parametrize("bytes_spared", [0, 100], ids=["all-of-it", "all-but-its-header"])
async def test_a_damaged_sqlite_file_is_named_with_the_way_out(sqlite_url: str, bytes_spared: int) -> None:
    _damage(Path(sqlite_url.removeprefix("sqlite:///")), bytes_spared)
    with pytest.raises(JournalMisconfigured, match="restore it from a backup"):
        await _open(sqlite_url)


async def test_tables_that_went_missing_are_misconfiguration(own_url: str) -> None:
    async with SqlJournal.open(own_url) as journal:
        await run(own_url, "DROP TABLE attempts")
        with pytest.raises(JournalMisconfigured, match=r"starter\.py provision"):
            await journal.attempts("settlement-0-none")


async def test_a_cancelled_write_frees_the_journal_for_the_next(url: str) -> None:
    async with SqlJournal.open(url) as journal:
        tasks = [asyncio.create_task(journal.claim(claim(some_bets(50, f"b{n}")))) for n in range(6)]
        for turn in range(12):
            await asyncio.sleep(0)
            tasks[turn % 5].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        answers = [await journal.claim(claim(some_bets(50, f"b{n}"))) for n in range(6)]
        assert sorted(answer.number for answer in answers) == list(range(1, 7))


async def test_a_fault_in_the_program_is_not_passed_off_as_the_databases(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    with pytest.raises(sqlite3.ProgrammingError):
        async with database.write():
            raise sqlite3.ProgrammingError
    with pytest.raises(ZeroDivisionError):
        async with database.write():
            raise ZeroDivisionError
    await database.close()


def _damage(path: Path, bytes_spared: int) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:bytes_spared] + b"\xff" * (len(whole) - bytes_spared))


async def _open(url: str) -> None:
    async with SqlJournal.open(url):
        pass


async def test_a_row_that_no_bet_can_have_is_a_conflict_that_names_the_field(sqlite_url: str) -> None:
    bets = some_bets(1)
    async with SqlJournal.open(sqlite_url) as journal:
        await journal.claim(claim(bets))
        with sqlite3.connect(sqlite_url.removeprefix("sqlite:///")) as tampering:
            tampering.execute("UPDATE bets SET player = 'nobody'")
        with pytest.raises(JournalConflict, match="player: "):
            await journal.bet(bets[0].bet_id)
