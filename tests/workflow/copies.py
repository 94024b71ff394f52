"""Copies of a journal's SQLite file, and their restoration under the feet of whoever works with it."""

import sqlite3
from contextlib import closing
from pathlib import Path


class Copy:
    """What a journal's file holds now, to go back to later."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._copy = sqlite3.connect(":memory:")
        with closing(sqlite3.connect(journal)) as live:
            live.backup(self._copy)

    def restore(self) -> None:
        """Lets the journal hold again what it held then, and nothing that came since. Connections to it stay open."""
        with closing(sqlite3.connect(self._journal)) as live:
            self._copy.backup(live)
