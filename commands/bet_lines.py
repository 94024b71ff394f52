"""Reads a file of bets, line by line, however long it is and whether or not the next line has been written yet.

It never holds up the event loop, and never more than a piece of the file in memory. What is no JSON is passed on as text: the Batcher
records it as malformed.
"""

import os
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

from pydantic_core import from_json

from commands.running import from_input
from settings import InvalidSetting

STANDARD_INPUT: Final = Path("-")
READ_BYTES: Final = 65_536
MAX_LINE_BYTES: Final = 65_536
"""A longer line is no bet, which takes some 200; so much of it is passed on as text."""


async def bet_lines(file: Path) -> AsyncGenerator[tuple[int, Any]]:
    """The bets of a JSONL file, each with the number of its line; blank lines are passed over. Raises `InvalidSetting`."""
    try:
        # Who opens a pipe waits for the other side.
        opened = await from_input(partial(_open, file))
        with opened:
            number = 0
            async for line in _lines(opened.fileno()):
                number += 1
                if number == 1:
                    line.decode()
                if line.strip():
                    yield number, bet_value(line)
    except UnicodeDecodeError:
        raise InvalidSetting(f"{file} cannot be read: it is no text in UTF-8") from None
    except OSError as error:
        raise InvalidSetting(f"{file} cannot be read: {error}") from None


def bet_value(line: bytes) -> Any:
    """The value that `line` is as JSON; where it is none, or none that a Batcher could be sent in a list, the text."""
    if len(line) <= MAX_LINE_BYTES:
        try:
            (value,) = from_json(b"[%b]" % line)
        except ValueError:
            pass
        else:
            return value
    return line[:MAX_LINE_BYTES].decode(errors="backslashreplace")


def _open(file: Path) -> BinaryIO:
    return open(0, "rb", buffering=0, closefd=False) if file == STANDARD_INPUT else file.open("rb", buffering=0)


async def _lines(descriptor: int) -> AsyncGenerator[bytes]:
    """Without their ends. Of a line beyond `MAX_LINE_BYTES` what comes is longer than that, but not all."""
    rest = b""
    while piece := await from_input(partial(os.read, descriptor, READ_BYTES)):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line
        rest = rest[: MAX_LINE_BYTES + 1]
    yield rest
