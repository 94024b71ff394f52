"""Ctrl-C ends a command that waits for input, at once and not at the next Enter."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from temporalio.client import Client
from temporalio.service import RPCError

from commands.running import STOPPED_STATUS
from embedded.site import ROOT
from tests.e2e.machine import clean_environment, eventually
from workflows import names

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


async def test_placing_from_a_pipe_that_says_no_more_is_ended_by_ctrl_c_and_tells_what_was_placed(
    right: dict[str, str],
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "starter.py", "place", "-"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=clean_environment(**right),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    client = await Client.connect(right["TEMPORAL_ADDRESS"])

    async def sent() -> bool:
        """No worker answers it; but the lane was started for it."""
        assert process.returncode is None
        try:
            await client.get_workflow_handle(names.batcher_id(0)).describe()
        except RPCError:
            return False
        return True

    try:
        process.stdin.write(b'{"bet_id": "b-1", "player": "11111111111111111111111111111111"}\n')
        await eventually("the bet was sent", sent)
        process.send_signal(signal.SIGINT)
        # Its standard input stays open.
        out, err = await asyncio.wait_for(asyncio.gather(process.stdout.read(), process.stderr.read()), STOP_SECONDS)
        assert await process.wait() == STOPPED_STATUS
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert err.decode() == "stopped\n"
    assert out.decode().startswith("not all was placed: 0 accepted, 0 duplicate, 0 rejected")
    assert "1 were read and not answered" in out.decode()
