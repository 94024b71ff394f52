"""SQLite connections that go to their thread once for each statement, where aiosqlite's own go four times.

Aiosqlite makes its cursor, runs it, fetches its rows and closes it in a trip each, and such trips were most of the journal's cost.
Never for results that are read as they come: a statement's rows are all fetched at once.
"""

import sqlite3
from collections.abc import Iterable
from functools import partial
from typing import Any, Final

import aiosqlite
from aiosqlite.context import contextmanager

CHUNK_ROWS: Final = 64
"""Aiosqlite's own measure of how many rows to fetch at a time, of no effect where they are all fetched at once."""


def connect(path: str, **options: Any) -> aiosqlite.Connection:
    """As `aiosqlite.connect`. `options` must let threads share the connection, as SQLAlchemy's for files do."""
    return _Connection(partial(sqlite3.connect, path, **options), CHUNK_ROWS)


class _Connection(aiosqlite.Connection):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        # As SQLAlchemy does with connections that it makes itself: one left open must not keep the process alive.
        self._thread.daemon = True

    @contextmanager
    async def cursor(self) -> aiosqlite.Cursor:
        return _Cursor(self, self._conn.cursor())


class _Cursor(aiosqlite.Cursor):
    _rows: Iterable[Any] = ()

    async def execute(self, sql: str, parameters: Iterable[Any] | None = None) -> "_Cursor":
        def run() -> list[Any]:
            return self._cursor.execute(sql, tuple(parameters or ())).fetchall()

        self._rows = await self._execute(run)  # pyright: ignore[reportUnknownMemberType]
        return self

    async def fetchall(self) -> Iterable[Any]:
        return self._rows

    async def close(self) -> None:
        """Nothing is open: once its last row is fetched, a statement is done."""
