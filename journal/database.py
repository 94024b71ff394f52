"""Connections to the journal's database: SQLite by aiosqlite or PostgreSQL by asyncpg, in transactions that wait a bounded time.

No error of SQLAlchemy's or a driver's gets past here untranslated, and no message ever holds a password.
"""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from sqlalchemy import URL, Connection, event, exc, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from journal import sqlite
from journal.errors import domain_error
from settlement.errors import JournalMisconfigured, JournalUnavailable

LOCK_WAIT_MILLISECONDS = 5_000
"""How long another process's lock is waited for before the journal counts as unavailable."""
STATEMENT_SECONDS: Final = 30
"""The longest that one statement may run on PostgreSQL."""
ANSWER_SECONDS: Final = STATEMENT_SECONDS + 5
"""The longest that an answer of PostgreSQL's is waited for; more than it may take, so that only a lost connection meets it."""
CONNECT_SECONDS: Final = 10
CONNECTIONS_KEPT: Final = 5
CONNECTIONS_BEYOND: Final = 10
CONNECTION_WAIT_SECONDS: Final = 30
"""How long a free connection is waited for when all `CONNECTIONS_KEPT` + `CONNECTIONS_BEYOND` are busy."""
WAL_RETRY_SECONDS: Final = 0.05

_DRIVERS: Final = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
_POSTGRESQL_OPTIONS: Final = ("host", "port", "ssl")
"""What may follow `?` in the URL: a Unix socket's directory and port, and asyncpg's `ssl` (`require`, `verify-full`, …)."""
_BEGIN: Final = "journal_begin"


class Database:
    """An engine on one database, and the transactions on it. `name` tells people which, without user or password."""

    def __init__(self, url: str) -> None:
        """`url`: `sqlite:///<path>` or `postgresql://<user>:<password>@<host>/<database>`.

        Raises `JournalMisconfigured` if it is neither, or if an SQLite file's directory does not exist. Connects to nothing.
        """
        parsed = _parsed(url)
        self.is_sqlite: Final = parsed.get_backend_name() == "sqlite"
        self.name: Final = _name(parsed)
        self.path: Final = Path(parsed.database or "") if self.is_sqlite else None
        if self.path and not self.path.parent.is_dir():
            raise JournalMisconfigured(f"journal {self.name}: there is no directory {self.path.parent}: create it")
        self.engine: Final = _sqlite_engine(parsed) if self.is_sqlite else _postgresql_engine(parsed)
        self._for_writing: Final = self.engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})
        self._for_reading: Final = (
            self.engine
            if self.is_sqlite
            else self.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        )
        self._for_one_statement: Final = self.engine.execution_options(
            **({_BEGIN: None} if self.is_sqlite else {"isolation_level": "AUTOCOMMIT"})
        )
        # SQLite has one writer at a time: those of this process queue here, in order, rather than polling the file's lock.
        self._one_writer: Final = asyncio.Lock()

    @asynccontextmanager
    async def write(self) -> AsyncGenerator[AsyncConnection, None]:
        """A transaction that is kept if its block ends well. On SQLite it holds the write lock from its start."""
        turn: AbstractAsyncContextManager[Any] = self._one_writer if self.is_sqlite else nullcontext()
        with self._domain_errors():
            async with turn, self._for_writing.begin() as connection:
                yield connection

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[AsyncConnection, None]:
        """A transaction that sees one state of the database throughout."""
        with self._domain_errors():
            # Ends without a commit, of which there is nothing to keep.
            async with self._for_reading.connect() as connection:
                yield connection

    @asynccontextmanager
    async def read_once(self) -> AsyncGenerator[AsyncConnection, None]:
        """For a read of one statement, which sees one state of the database by itself and is spared the transaction."""
        with self._domain_errors():
            async with self._for_one_statement.connect() as connection:
                yield connection

    async def use_wal(self) -> None:
        """Puts an SQLite file into WAL mode, which the file then keeps. Nothing to do on PostgreSQL."""
        if not self.is_sqlite:
            return
        clock = asyncio.get_running_loop()
        deadline = clock.time() + LOCK_WAIT_MILLISECONDS / 1_000
        while True:
            try:
                await self._use_wal()
                return
            except JournalUnavailable:
                # The switch needs the file for itself, and SQLite does not itself wait for another process that has it open.
                if clock.time() > deadline:
                    raise
                await asyncio.sleep(WAL_RETRY_SECONDS)

    async def close(self) -> None:
        """Closes every connection."""
        await self.engine.dispose()

    async def _use_wal(self) -> None:
        with self._domain_errors():
            async with self.engine.execution_options(**{_BEGIN: None}).connect() as connection:
                mode = (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar_one()
                if mode != "wal":
                    mode = (await connection.exec_driver_sql("PRAGMA journal_mode = WAL")).scalar_one()
        if mode != "wal":
            raise JournalMisconfigured(
                f"journal {self.name}: its file system cannot hold a WAL journal: put the file on a local disk"
            )

    @contextmanager
    def _domain_errors(self) -> Generator[None, None, None]:
        try:
            yield
        except (exc.SQLAlchemyError, OSError, ValidationError) as error:
            translated = domain_error(error, self.name)
            if translated is None:
                raise
            raise translated from error


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
        driver = _DRIVERS[parsed.get_backend_name()]
    except (exc.ArgumentError, KeyError, ValueError):
        # The URL itself is not shown: where it cannot be read, neither can what in it is the password.
        raise JournalMisconfigured(
            "the journal's URL must be sqlite:///<path> or postgresql://<user>:<password>@<host>/<database>"
        ) from None
    if driver.startswith("sqlite") and parsed.database in (None, "", ":memory:"):
        raise JournalMisconfigured(
            "the journal's URL names no file, and a journal in memory would be lost: sqlite:///<path>"
        )
    known = _POSTGRESQL_OPTIONS if driver == _DRIVERS["postgresql"] else ()
    if unknown := sorted(set(parsed.query) - set(known)):
        raise JournalMisconfigured(
            f"the journal's URL has options that do not exist: {', '.join(unknown)} (known: {', '.join(known) or 'none'})"
        )
    return parsed.set(drivername=driver)


def _name(url: URL) -> str:
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    host = url.host or url.query.get("host") or "localhost"
    return f"postgresql://{host}{f':{url.port}' if url.port else ''}/{url.database or ''}"


def _sqlite_engine(url: URL) -> AsyncEngine:
    engine = create_async_engine(
        url,
        connect_args={"timeout": LOCK_WAIT_MILLISECONDS / 1_000, "async_creator_fn": sqlite.connect},
        pool_size=CONNECTIONS_KEPT,
        max_overflow=CONNECTIONS_BEYOND,
        pool_timeout=CONNECTION_WAIT_SECONDS,
    )
    event.listen(engine.sync_engine, "connect", _set_up_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    # Else the driver would begin transactions of its own, late and deferred (https://docs.python.org/3/library/sqlite3.html).
    connection.isolation_level = None
    cursor = connection.cursor()
    # FULL: in WAL mode only this makes a commit outlive a loss of power.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    statement = connection.get_execution_options().get(_BEGIN, "BEGIN")
    if statement:
        connection.exec_driver_sql(statement)


def _postgresql_engine(url: URL) -> AsyncEngine:
    return create_async_engine(
        url,
        connect_args={
            "timeout": CONNECT_SECONDS,
            "command_timeout": ANSWER_SECONDS,
            "server_settings": {
                "application_name": "croupier",
                "lock_timeout": str(LOCK_WAIT_MILLISECONDS),
                "statement_timeout": str(STATEMENT_SECONDS * 1_000),
                # A worker that vanished mid-transaction must not keep a lane locked.
                "idle_in_transaction_session_timeout": str(STATEMENT_SECONDS * 1_000),
            },
        },
        pool_size=CONNECTIONS_KEPT,
        max_overflow=CONNECTIONS_BEYOND,
        pool_timeout=CONNECTION_WAIT_SECONDS,
        pool_pre_ping=True,
    )
