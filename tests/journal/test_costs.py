"""What the journal costs: how often it asks its database for one batch, and how often SQLite's thread is asked for one statement."""

import threading
from collections.abc import AsyncGenerator, Awaitable
from typing import Any

import aiosqlite
import pytest
from sqlalchemy import event, text

from journal.adapter import SqlJournal
from journal.database import Database
from settlement.lifecycle import BatchStatus
from tests.journal.samples import attempt, claim, landing, proof, some_bets, statement, step


@pytest.fixture
async def database(url: str) -> AsyncGenerator[Database, None]:
    opened = Database(url)
    yield opened
    await opened.close()


async def test_no_call_on_a_batchs_way_asks_the_database_twice_for_the_same(database: Database) -> None:
    journal = SqlJournal(database)
    statements = 0

    def count(*execution: Any) -> None:
        nonlocal statements
        statements += not str(execution[2]).startswith("BEGIN")

    async def asked(call: Awaitable[Any]) -> int:
        before = statements
        await call
        return statements - before

    event.listen(database.engine.sync_engine, "before_cursor_execute", count)
    await journal.claim(claim(some_bets(1, "first-of-its-lane")))
    cut = claim(some_bets(56))
    batch = cut.batch_id
    assert await asked(journal.unknown([batch])) == 1
    assert await asked(journal.batch(batch)) == 1
    # Two locks, the number, the batch, its transition, its bets, and what of them it got.
    assert await asked(journal.claim(cut)) == 7
    claimed = await journal.claim(cut)
    of_batch = statement(claimed)
    # The lock, the last transition, the new one, the status.
    transition = 4
    assert await asked(journal.record_transition(batch, step(1, BatchStatus.PROVING))) == transition
    assert await asked(journal.claimed_bets(batch)) == 1
    assert await asked(journal.record_transition(batch, step(2, BatchStatus.PROVED))) == transition
    # The lock, the bets, the slots, the figures.
    assert await asked(journal.record_statement(batch, of_batch, proof(of_batch))) == 4
    assert await asked(journal.attempts(batch)) == 1
    assert await asked(journal.record_attempt(batch, attempt(claimed))) == 3
    assert await asked(journal.record_transition(batch, step(3, BatchStatus.SUBMITTED))) == transition
    assert await asked(journal.attempts(batch)) == 1
    assert await asked(journal.batch(batch)) == 2
    # Besides, the bets that it settles, and that they are settled.
    assert await asked(journal.confirm(batch, landing(claimed), step(4, BatchStatus.CONFIRMED))) == transition + 2


async def test_a_read_of_one_statement_is_spared_the_transaction_that_all_else_has(database: Database) -> None:
    async def is_in_transaction(reading: Any) -> bool:
        async with reading as connection:
            await connection.execute(text("SELECT 1"))
            driver = (await connection.get_raw_connection()).driver_connection
            return driver.in_transaction if database.is_sqlite else driver.is_in_transaction()

    assert not await is_in_transaction(database.read_once())
    # On the same connection, which the pool hands out again.
    assert await is_in_transaction(database.read())
    assert await is_in_transaction(database.write())


async def test_a_statement_is_one_trip_to_the_thread_of_sqlite(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trips = 0
    send = aiosqlite.Connection._execute  # pyright: ignore

    async def counted(*arguments: Any) -> Any:
        nonlocal trips
        trips += 1
        return await send(*arguments)  # pyright: ignore

    database = Database(sqlite_url)
    async with database.write() as connection:
        monkeypatch.setattr(aiosqlite.Connection, "_execute", counted)
        for sql, answer in (
            ("INSERT INTO lanes VALUES (1, 5), (2, 6)", None),
            ("SELECT last_number FROM lanes ORDER BY lane", [5, 6]),
            ("UPDATE lanes SET last_number = last_number + 1 RETURNING last_number", [6, 7]),
        ):
            trips = 0
            result = await connection.execute(text(sql))
            assert answer is None or list(result.scalars()) == answer
            assert trips == 1
    await database.close()


async def test_a_connection_that_is_left_open_does_not_keep_the_process_alive(sqlite_url: str) -> None:
    before = threading.enumerate()
    database = Database(sqlite_url)
    async with database.read() as connection:
        await connection.execute(text("SELECT 1"))
        started = [thread for thread in threading.enumerate() if thread not in before]
        assert [thread.daemon for thread in started] == [True]
    await database.close()
