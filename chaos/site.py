"""The stack of a run: a fresh state directory, settings of its own, and its processes."""

import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from chaos import client
from chaos.bets import Crowd
from chaos.plan import NODES, Target
from chaos.services import Service, Supervisor
from embedded.processes import Child, start, stop
from embedded.site import LEDGER_READY, ROOT, TEMPORAL_READY, WORKER_READY, Site
from settings import PREFIX, VAR_VARIABLE

LANES: Final = 2
WORKERS: Final = 2
"""Of each kind."""

SLOT_MS: Final = 80
"""Final after 2.6 seconds, expired after 12."""

PORTS_FROM: Final = 20_000 + os.getpid() % 1_000
"""Above the usual ports, and hardly ever another run's: while a process of one is down, another must not take its port."""

SETTINGS: Final = {
    "LANES": str(LANES),
    "WINDOW_SECONDS": "3",
    "PROVING_THREADS": "1",
    "RECONCILE_EVERY_SECONDS": "60",
}
"""What differs from production's defaults. Time-outs, heartbeats and retention do not."""

WORKER: Final = (sys.executable, str(ROOT / "worker.py"))


def settings_of(site: Site, circuit_keys: Path) -> dict[str, str]:
    """The environment of all processes: this one's without what steers another stack, and the run's own settings."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "TEMPORAL_"))}
    return {
        **inherited,
        **site.environment(),
        **{f"{PREFIX}{name}": value for name, value in SETTINGS.items()},
        VAR_VARIABLE: str(site.var),
        f"{PREFIX}FURTHER_RPC_URLS": ",".join(f"{site.rpc_url}/nodes/{node}" for node in range(1, NODES)),
        f"{PREFIX}CIRCUIT_KEYS": str(circuit_keys),
    }


def forget_earlier_run(site: Site) -> None:
    """Empties the state directory, whose lock the caller holds."""
    for entry in site.var.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != "stack.lock":
            entry.unlink()
    site.make()


async def ran(
    name: str, arguments: Sequence[str | Path], site: Site, environment: Mapping[str, str]
) -> tuple[int, Child]:
    """Runs one of our commands, given as Python's arguments, to its end; its status, and itself for what it has printed."""
    child = await start(name, (sys.executable, *arguments), log=site.log(name), folder=ROOT, environment=environment)
    try:
        return await child.process.wait(), child
    finally:
        await stop(child)


async def starter(name: str, arguments: Sequence[str], site: Site, environment: Mapping[str, str]) -> None:
    """Runs a command of `starter.py`. Raises `ChildFailed` with the end of what it has printed."""
    status, child = await ran(name, ("starter.py", *arguments), site, environment)
    if status:
        raise child.failure(f"ended with status {status}")


def keep_servers(supervisor: Supervisor, site: Site, environment: Mapping[str, str]) -> tuple[Service, Service]:
    """Temporal and the ledger, which takes faults."""
    ledger = [*site.ledger_command(SLOT_MS), "--faults"]
    return (
        supervisor.keep("temporal", Target.TEMPORAL, site.temporal_command(), TEMPORAL_READY, environment),
        supervisor.keep("ledger", Target.LEDGER, ledger, LEDGER_READY, environment),
    )


def keep_workers(supervisor: Supervisor, worker: Sequence[str], environment: Mapping[str, str]) -> list[Service]:
    """Workers of both kinds. `worker`: the command that runs one."""
    return [
        supervisor.keep(f"{queue}-{number}", target, (*worker, "--queues", queue), WORKER_READY, environment)
        for queue, target in (("settlement", Target.SETTLEMENT_WORKER), ("proving", Target.PROVING_WORKER))
        for number in range(WORKERS)
    ]


def keep_clients(
    supervisor: Supervisor, crowd: Crowd, books: Path, over_seconds: float, environment: Mapping[str, str]
) -> list[Service]:
    """The crowd's clients, which place its bets from now on."""
    common = {
        "folder": books,
        "seed": crowd.seed,
        "bets": crowd.bets,
        "players": crowd.players,
        "clients": crowd.clients,
        "starts-at": time.time(),
        "over-seconds": over_seconds,
    }
    options = [argument for name, value in common.items() for argument in (f"--{name}", str(value))]
    command = (sys.executable, "-m", "chaos.client", *options, "--client")
    return [
        supervisor.keep(f"client-{number}", Target.CLIENT, (*command, str(number)), client.READY, environment)
        for number in range(crowd.clients)
    ]
