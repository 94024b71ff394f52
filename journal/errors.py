"""What a database's complaint means to the domain. Decided by the driver's error codes, never by the text of a message.

Codes: https://www.sqlite.org/rescode.html and PostgreSQL's documentation, appendix A, "PostgreSQL Error Codes".
"""

import sqlite3
from collections.abc import Callable
from typing import Final

from pydantic import ValidationError
from sqlalchemy import exc

from settlement.errors import CroupierError, JournalConflict, JournalMisconfigured, JournalUnavailable

_RETRY: Final = "it is tried again by itself"
_NOT_THE_SCHEMA: Final = "the journal's tables are not those of this program: run `python starter.py provision`"
_CORRUPT: Final = (
    "the journal's data is damaged or is no database: restore it from a backup, then reconcile it with the chain"
)
_FULL: Final = "the journal's disk is full: make room for it"
_READ_ONLY: Final = "the journal is read-only: give this process the right to write to it"
_LOCKED: Final = "the journal is locked by another process; " + _RETRY
_IMPOSSIBLE: Final = (
    "it holds what this program never writes: restore it from a backup, then reconcile it with the chain"
)
_LOST: Final = "the connection to the journal was lost or refused: check that its server runs; " + _RETRY

_SQLITE_PRIMARY_CODE_BITS: Final = 0xFF
"""An extended result code holds its primary code in the lowest byte."""

_SQLITE: Final[dict[int, tuple[Callable[[str], CroupierError], str]]] = {
    sqlite3.SQLITE_BUSY: (JournalUnavailable, _LOCKED),
    sqlite3.SQLITE_LOCKED: (JournalUnavailable, _LOCKED),
    sqlite3.SQLITE_PROTOCOL: (JournalUnavailable, _LOCKED),
    sqlite3.SQLITE_READONLY: (JournalUnavailable, _READ_ONLY),
    sqlite3.SQLITE_PERM: (JournalUnavailable, _READ_ONLY),
    sqlite3.SQLITE_FULL: (JournalUnavailable, _FULL),
    sqlite3.SQLITE_IOERR: (JournalUnavailable, "the journal's disk reports an error: check it; " + _RETRY),
    sqlite3.SQLITE_NOMEM: (JournalUnavailable, "there is no memory left for the journal; " + _RETRY),
    sqlite3.SQLITE_CANTOPEN: (
        JournalUnavailable,
        "the journal's file cannot be opened: check that it is there and its rights",
    ),
    sqlite3.SQLITE_CORRUPT: (JournalMisconfigured, _CORRUPT),
    sqlite3.SQLITE_NOTADB: (JournalMisconfigured, _CORRUPT),
    sqlite3.SQLITE_ERROR: (JournalMisconfigured, _NOT_THE_SCHEMA),
    sqlite3.SQLITE_CONSTRAINT: (JournalConflict, "the journal's constraints refuse what is to be written"),
}

_POSTGRESQL: Final[tuple[tuple[str, Callable[[str], CroupierError], str], ...]] = (
    ("08", JournalUnavailable, _LOST),
    ("23", JournalConflict, "the journal's constraints refuse what is to be written"),
    ("25006", JournalUnavailable, _READ_ONLY),
    ("28", JournalMisconfigured, "the journal's server refuses the user: check its name and password"),
    ("3D", JournalMisconfigured, "the journal's database does not exist on its server: create it"),
    ("40", JournalUnavailable, "the journal's server undid the write in favour of a concurrent one; " + _RETRY),
    ("42501", JournalMisconfigured, "the journal's server denies the user a right: grant it"),
    ("42", JournalMisconfigured, _NOT_THE_SCHEMA),
    ("53100", JournalUnavailable, _FULL),
    ("53", JournalUnavailable, "the journal's server is out of resources; " + _RETRY),
    ("55", JournalUnavailable, _LOCKED),
    ("57014", JournalUnavailable, "the journal's server took too long; " + _RETRY),
    ("57", JournalUnavailable, _LOST),
    ("58", JournalUnavailable, "the journal's server reports a system error: check it; " + _RETRY),
    ("XX", JournalMisconfigured, _CORRUPT),
)
"""By SQLSTATE: the first whose prefix fits."""


def domain_error(error: Exception, journal: str) -> CroupierError | None:
    """What `error` means for the journal named `journal`; None if it is no complaint of a database but a fault in the program."""
    if isinstance(error, ValidationError):
        return JournalConflict(f"journal {journal}: {_IMPOSSIBLE} ({_problems(error)})")
    kind, meaning = _meaning(error)
    if kind is None:
        return None
    cause = error.orig if isinstance(error, exc.DBAPIError) and error.orig is not None else error
    said = str(cause).strip().splitlines()
    return kind(f"journal {journal}: {meaning} ({said[0] if said else type(cause).__name__})")


def _problems(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_context=False)
    return f"{error.title}: " + "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in problems)


def _meaning(error: Exception) -> tuple[Callable[[str], CroupierError] | None, str]:
    if isinstance(error, exc.TimeoutError):
        return JournalUnavailable, "all connections to the journal are busy; " + _RETRY
    if isinstance(error, OSError):
        return JournalUnavailable, _LOST
    if not isinstance(error, exc.DBAPIError):
        return None, ""
    state: str | None = getattr(error.orig, "sqlstate", None)
    for prefix, kind, meaning in _POSTGRESQL if state else ():
        if state and state.startswith(prefix):
            return kind, meaning
    if isinstance(error.orig, sqlite3.Error):
        code: int | None = getattr(error.orig, "sqlite_errorcode", None)
        return _SQLITE.get((code or 0) & _SQLITE_PRIMARY_CODE_BITS, (None, ""))
    if error.connection_invalidated or (state is None and isinstance(error, exc.InterfaceError)):
        return JournalUnavailable, _LOST
    return None, ""
