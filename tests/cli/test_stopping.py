"""Ctrl-C ends a command that waits for input, at once and not at the next Enter."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from commands.running import STOPPED_STATUS
from embedded.site import ROOT
from tests.e2e.machine import clean_environment, eventually

STOP_SECONDS = 2.0


async def test_verifying_what_never_comes_is_ended_by_ctrl_c(tmp_path: Path) -> None:
    pipe = tmp_path / "receipt"
    os.mkfifo(pipe)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "starter.py", "verify", pipe),
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=clean_environment(CROUPIER_VAR=str(tmp_path)),
    )

    async def open_to_write() -> int | None:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # Nobody reads yet.
            assert process.returncode is None
            return None

    try:
        held_open = await eventually("the command reads", open_to_write)
        try:
            process.send_signal(signal.SIGINT)
            _, err = await asyncio.wait_for(process.communicate(), STOP_SECONDS)
        finally:
            os.close(held_open)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, err.decode()) == (STOPPED_STATUS, "stopped\n")
