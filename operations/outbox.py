"""Keeps signed transfers on disk from before they are sent until the chain has said what became of them, one per purpose.

It must never replace or drop a record by itself: a record that is gone would let a transfer be signed, and paid, twice.
"""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ledger.files import publish
from settings import VAR
from settlement.errors import CroupierError

FOLDER: Final = VAR / "transfers"
"""Where commands keep what they send."""

MAX_RECORD_BYTES: Final = 16_384
"""A record has about 1,000; a larger file is none."""

_MARK_SUFFIX: Final = ".landed"

Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=0)]


class OutboxUnusable(CroupierError):
    """The outbox cannot be read or written. Nothing was sent."""


class TransferUnderWay(CroupierError):
    """Another process is at a transfer of the same purpose."""


class SignedTransfer(BaseModel):
    """A transfer that is signed and may land. `what` says to people what is moved, and is the same for the same alone.

    `cluster`: the genesis hash.
    `raw`: the signed bytes in base64; None where they were handed out for another to sign and send.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    what: Text
    cluster: Text
    signature: Text
    raw: str | None
    last_valid_block_height: Count
    signed_after_slot: Count


class Place:
    """Where the one transfer of a purpose stands. Belongs to whoever has it from `reserved`."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def read(self) -> SignedTransfer | None:
        """What an earlier run has left. Raises `OutboxUnusable`."""
        try:
            with self.file.open("rb") as opened:
                content = opened.read(MAX_RECORD_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise OutboxUnusable(f"{self.file} cannot be read: {error.strerror}") from None
        try:
            return SignedTransfer.model_validate_json(content)
        except ValidationError:
            raise OutboxUnusable(
                f"{self.file} does not hold the record of a transfer. It stands for one that may have been sent: look at"
                " the balances on chain (`python starter.py balances`), wait two minutes, and remove the file if"
                " nothing is under way"
            ) from None

    def keep(self, transfer: SignedTransfer) -> None:
        """Returns once it is durable. Raises `OutboxUnusable`, with nothing kept: then nothing may be sent."""
        try:
            publish(self.file, transfer.model_dump_json(indent=1).encode())
        except OSError as error:
            raise OutboxUnusable(f"{self.file} cannot be written: {error.strerror}; nothing was sent") from None

    def forget(self) -> None:
        """What became of it is known. If a power cut undoes this, the next run finds that out once more.

        Raises `OutboxUnusable` if the record is still there.
        """
        try:
            self.file.unlink(missing_ok=True)
        except OSError as error:
            raise OutboxUnusable(
                f"the record {self.file} could not be removed ({error.strerror}), the next run clears it"
            ) from None

    def part(self, number: int) -> "Place":
        """Where one of several transfers stands that have the purpose together."""
        return Place(self.file.with_stem(f"{self.file.stem}-{number}"))

    def high_water(self, cluster: str) -> "HighWater":
        """Up to which slot of the cluster (its genesis hash) transfers of the purpose have landed."""
        return HighWater(self.file.parent, f"{self.file.stem}.{cluster}.")


class HighWater:
    """The highest slot in which transfers of a purpose have landed, which outlives their records: balances of an earlier slot lack them.

    An empty file whose name ends in the slot. The next one is there before the last is removed.
    """

    def __init__(self, folder: Path, prefix: str) -> None:
        self._folder = folder
        self._prefix = prefix

    def slot(self) -> int:
        """0 if none has landed. Raises `OutboxUnusable`."""
        return max(self._marks(), default=0)

    def raise_to(self, slot: int) -> None:
        """Returns once it is durable. Raises `OutboxUnusable`, and then it may be as before."""
        marks = self._marks()
        if slot <= max(marks, default=0):
            return
        mark = self._folder / f"{self._prefix}{slot}{_MARK_SUFFIX}"
        try:
            publish(mark, b"")
            for lower in marks.values():
                lower.unlink(missing_ok=True)
        except OSError as error:
            raise OutboxUnusable(f"{mark} cannot be written: {error.strerror}") from None

    def _marks(self) -> dict[int, Path]:
        try:
            found = [file for file in self._folder.iterdir() if file.name.startswith(self._prefix)]
        except OSError as error:
            raise OutboxUnusable(f"{self._folder} cannot be read: {error.strerror}") from None
        slots = [(file.name.removeprefix(self._prefix).removesuffix(_MARK_SUFFIX), file) for file in found]
        return {int(slot): file for slot, file in slots if slot.isascii() and slot.isdecimal()}


@contextmanager
def reserved(folder: Path, purpose: str) -> Generator[Place]:
    """The place for transfers of one purpose (a file's name), which nobody else has meanwhile.

    Raises `TransferUnderWay`, `OutboxUnusable`.
    """
    lock = folder / f"{purpose}.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise OutboxUnusable(f"{lock} cannot be made: {error.strerror}; nothing was sent") from None
    try:
        try:
            # Held by the process, so that it is free again however that ends.
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TransferUnderWay(
                f"another command is at the same transfer ({purpose}) now: wait until it has ended, then look at the balances"
            ) from None
        yield Place(folder / f"{purpose}.json")
    finally:
        os.close(handle)
