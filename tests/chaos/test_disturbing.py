"""A plan is carried out to its end and counted as it was: on a slow machine later, and never by killing what is down already."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from chaos.disturbing import Disturbing
from chaos.faults import ExtensionRefused, FaultExtension
from chaos.plan import FORK, INJECT, Fault, Kill, Plan, Target
from chaos.services import Service, State, Supervisor
from chaos.watching import Healing

READY = "at your service"
SERVING = f"import time; print('{READY}', flush=True); time.sleep(600)"
NEVER_READY = "import time; time.sleep(600)"
SECONDS = 30.0


class Extension:
    """Remembers what it was asked to do, and forks nothing."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    async def call(self, method: str, parameters: list[Any]) -> None:
        if method == FORK:
            raise ExtensionRefused("those blocks are final")
        self.calls.append((method, parameters))


@pytest.fixture
async def supervisor(tmp_path: Path) -> AsyncGenerator[Supervisor]:
    supervisor = Supervisor(tmp_path)
    try:
        yield supervisor
    finally:
        await supervisor.stop()


def keep(supervisor: Supervisor, name: str, target: Target, program: str = SERVING) -> Service:
    return supervisor.keep(name, target, (sys.executable, "-c", program), READY, os.environ)


def kill(at: float, target: Target) -> Kill:
    return Kill(at, target, pick=0.0, down_seconds=0.0)


def carried_out(
    supervisor: Supervisor, kills: tuple[Kill, ...], faults: tuple[Fault, ...] = (), log: Callable[[str], None] = print
) -> tuple[Disturbing, Extension]:
    extension = Extension()
    plan = Plan(seed=1, seconds=1.0, kills=kills, faults=faults)
    return Disturbing(plan, supervisor, cast("FaultExtension", extension), Healing(), log), extension


async def test_every_kill_and_every_fault_is_made_and_a_refused_one_is_not_counted(supervisor: Supervisor) -> None:
    services = [keep(supervisor, target.value, target) for target in (Target.LEDGER, Target.TEMPORAL)]
    await supervisor.ready(*services)
    log: list[str] = []
    faults = (Fault(0.0, "drop", INJECT, {"kind": "drop", "node": None}), Fault(0.1, "fork", FORK, {"depth": 3}))
    kills = (kill(0.0, Target.LEDGER), kill(0.1, Target.TEMPORAL), kill(0.2, Target.LEDGER))
    disturbing, extension = carried_out(supervisor, kills, faults, log.append)
    async with asyncio.timeout(SECONDS):
        await disturbing.run(1.0)
        await supervisor.ready(*services)
    assert disturbing.kills == {Target.LEDGER: 2, Target.TEMPORAL: 1}
    assert [service.starts for service in services] == [3, 2]
    assert disturbing.faults == {"drop": 1}
    assert extension.calls == [(INJECT, [{"kind": "drop", "node": None}])]
    assert "those blocks are final" in log


async def test_kill_waits_while_others_start_but_not_for_ever(supervisor: Supervisor) -> None:
    healthy = keep(supervisor, "healthy", Target.LEDGER)
    for number in range(2):
        keep(supervisor, f"slow-{number}", Target.PROVING_WORKER, NEVER_READY)
    await supervisor.ready(healthy)
    disturbing, _ = carried_out(supervisor, (kill(0.5, Target.LEDGER),))
    began = time.monotonic()
    async with asyncio.timeout(SECONDS):
        await disturbing.run(3.0)
    assert time.monotonic() - began >= 0.5 * 3.0
    assert disturbing.kills == {Target.LEDGER: 1}


async def test_what_has_finished_is_not_killed_and_another_is_in_its_place(supervisor: Supervisor) -> None:
    client, server = keep(supervisor, "client", Target.CLIENT, ""), keep(supervisor, "server", Target.LEDGER)
    await supervisor.ready(server)
    async with asyncio.timeout(SECONDS):
        await supervisor.until(lambda: client.state is State.FINISHED)
        disturbing, _ = carried_out(supervisor, (kill(0.0, Target.CLIENT),))
        await disturbing.run(1.0)
    assert disturbing.kills == {Target.LEDGER: 1}
