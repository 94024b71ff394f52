"""What clients have sent and what was acknowledged, on disk before anybody relies on it. The judge believes these files alone.

Each start of a client has files of its own, so that none is ever changed behind what a killed client has left.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from settlement.bets import Bet

SENT: Final = "sent"
ACKNOWLEDGED: Final = "acknowledged"
REFUSED: Final = "refused"
"""Rejected, which no bet of a run may be."""

KINDS: Final = (SENT, ACKNOWLEDGED, REFUSED)


class Book:
    """One start's file of one kind. What `write` has returned from survives any kill."""

    def __init__(self, folder: Path, kind: str, client: int) -> None:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        start = len(list((folder / kind).glob(f"{client}-*.jsonl")))
        path = folder / kind / f"{client}-{start:03}.jsonl"
        self._file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_WRONLY)
        _sync(path.parent)

    def write(self, bets: Sequence[Bet]) -> None:
        """Returns once the bets are on disk."""
        lines = "".join(bet.model_dump_json(exclude_none=True) + "\n" for bet in bets).encode()
        written = os.write(self._file, lines)
        assert written == len(lines), "a disk that is full ends the client, and its last line counts for nothing"
        os.fsync(self._file)


class Shelf:
    """The bet ids in all files of one kind, or of one client's, read on from where the last look ended."""

    def __init__(self, folder: Path, kind: str, client: int | None = None) -> None:
        self._folder, self._pattern = folder / kind, f"{'*' if client is None else client}-*.jsonl"
        self._read: dict[Path, int] = {}
        self._ids: set[str] = set()

    def ids(self) -> set[str]:
        """Those written whole by now."""
        for path in sorted(self._folder.glob(self._pattern)):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                whole, end, _ = file.read().rpartition(b"\n")
            self._read[path] = self._read.get(path, 0) + len(whole) + len(end)
            self._ids.update(Bet.model_validate_json(line).bet_id for line in whole.splitlines())
        return self._ids


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
