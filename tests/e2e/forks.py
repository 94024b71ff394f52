"""Runs Python programs as processes that need not load their libraries first; see `preloaded.py`."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final

_PRELOADED: Final = Path(__file__).parent / "preloaded.py"


async def run_forked(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str], seconds: float
) -> tuple[int, str, str]:
    """As `python ARGUMENTS`, of which the first names a file, in `folder`. Its exit status and what it has printed.

    Raises `TimeoutError` after so many seconds, and the process is no more.
    """
    program = {"arguments": arguments, "folder": str(folder), "environment": dict(environment)}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        read, write = os.pipe()
        try:
            socket.send_fds(_requests(), [json.dumps(program).encode()], [out.fileno(), err.fileno(), write])
        finally:
            os.close(write)
        told, transport = await _reader(read)
        process_id = int(await told.readline())
        try:
            async with asyncio.timeout(seconds):
                status = int(await told.readline())
        except TimeoutError:
            os.kill(process_id, signal.SIGKILL)
            await told.readline()
            raise
        finally:
            transport.close()
        out.seek(0)
        err.seek(0)
        return status, out.read().decode(), err.read().decode()


async def _reader(file: int) -> tuple[asyncio.StreamReader, asyncio.ReadTransport]:
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(file, "rb", buffering=0)
    )
    return reader, transport


@cache
def _requests() -> socket.socket:
    """To the one process that forks; it ends with this one, which alone can ask it for anything."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        subprocess.Popen(
            [sys.executable, _PRELOADED, str(theirs.fileno())], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
        )
    return ours
