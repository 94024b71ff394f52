"""`starter.py up` as a person runs it: ports, a second one, Ctrl-C, and what remains after the worst."""

import os
import re
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from commands.running import STOPPED_STATUS
from embedded import processes
from embedded.processes import Child
from embedded.site import ROOT
from tests.e2e.machine import (
    USUAL_PORTS,
    Finished,
    environment,
    eventually,
    provisioned_directory,
    run,
    usual_ports_taken,
)

RUNNING = "Croupier is running"
START_SECONDS = 90.0
END_SECONDS = 30.0
LANES = 2
"""Set for `up` only: other terminals must learn it from the stack."""


@pytest.fixture(scope="module")
async def var(tmp_path_factory: pytest.TempPathFactory, circuit_keys: Path) -> Path:
    return await provisioned_directory(tmp_path_factory.mktemp("up"), circuit_keys, LANES)


@asynccontextmanager
async def running_up(var: Path) -> AsyncGenerator[Child]:
    """`starter.py up` on `var`, once it says that it is running; ended with SIGKILL if the test leaves it running."""
    with usual_ports_taken():
        with environment({"CROUPIER_VAR": str(var), "CROUPIER_LANES": str(LANES)}):
            command = [sys.executable, "starter.py", "up"]
            up = await processes.start("up", command, log=var.parent / "up.log", folder=ROOT)
        try:
            await up.wait_for_line(RUNNING, START_SECONDS)
            await up.wait_for_line("starter.py status", END_SECONDS)
            yield up
        finally:
            if up.process.returncode is None:
                up.process.kill()
                await up.process.wait()


async def status(var: Path, *arguments: str) -> Finished:
    return await run([sys.executable, "starter.py", "status", *arguments], {"CROUPIER_VAR": str(var)})


def descendants(pid: int) -> list[int]:
    """Every process below `pid`."""
    found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return found + [below for child in found for below in descendants(child)]


async def gone(pids: list[int]) -> None:
    """Returns once none of the processes lives."""

    async def none_left() -> bool:
        return not any(_lives(pid) for pid in pids)

    await eventually(f"processes {pids} have ended", none_left, END_SECONDS)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


async def test_children_end_when_their_parent_is_killed(var: Path) -> None:
    async with running_up(var) as up:
        children = descendants(up.process.pid)
        assert len(children) == 3
        up.process.send_signal(signal.SIGKILL)
        await up.process.wait()
        await gone(children)


async def test_up_finds_free_ports_serves_other_terminals_and_stops_cleanly(var: Path) -> None:
    """On the state that the killed one has left."""
    async with running_up(var) as up:
        ports = {int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", up.log.read_text())}
        assert len(ports) == 3, "Web UI, Temporal and RPC are printed"
        assert ports.isdisjoint(USUAL_PORTS)
        assert "16x8 development: unsafe for funds" in up.log.read_text()
        assert "development: unsafe for funds" in (var / "log" / "worker.log").read_text()

        seen = await status(var, "--json")
        assert (seen.status, seen.err) == (0, "")
        assert [line for line in seen.out.splitlines() if '"lane":' in line] == ['    "lane": 0,', '    "lane": 1,']

        second = await run([sys.executable, "starter.py", "up"], {"CROUPIER_VAR": str(var)})
        assert second.status == 1
        assert "a stack is running on" in second.err
        assert len(second.err.splitlines()) == 1

        children = descendants(up.process.pid)
        up.process.send_signal(signal.SIGINT)
        await up.process.wait()
        await gone(children)
        assert up.process.returncode == STOPPED_STATUS
        said = up.log.read_text()
        assert "Traceback" not in said
        assert said.rstrip().endswith("\nstopped")
        # Only what was asked for and the word that it is done; nothing of what stopping has broken off.
        assert "Error" not in said
        assert "rror" not in (var / "log" / "worker.log").read_text()


async def test_command_without_a_running_stack_says_how_to_start_one(var: Path) -> None:
    """After the stack has stopped, nothing points to it any more."""
    assert not (var / "stack.env").exists()
    done = await run([sys.executable, "starter.py", "pause"], {"CROUPIER_VAR": str(var), "TEMPORAL_ADDRESS": "[::1]:1"})
    assert done.status == 1
    assert "no Temporal server answers at [::1]:1" in done.err
    assert "make up" in done.err
    assert len(done.err.splitlines()) == 1
