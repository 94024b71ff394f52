"""Processes of a scenario's own, to be killed with SIGKILL."""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

from embedded import processes
from embedded.processes import Child
from settings import PREFIX, Settings
from tests.e2e.machine import clean_environment
from tests.scenarios.mortal import PATIENCE_SECONDS, When
from tests.workflow.casino import DEVELOPMENT_SERVER
from worker import Queues

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"


@asynccontextmanager
async def killed_worker(
    *, settings: Settings, folder: Path, temporal: str, namespace: str, queues: Queues, when: When, step: str
) -> AsyncGenerator[Callable[[], Awaitable[None]]]:
    """Croupier's worker as a process, which kills itself at that step. What it gives waits until it has."""
    (folder / "temporal.toml").touch()
    values = settings.model_dump(exclude_none=True)
    environment = clean_environment(
        CROUPIER_VAR=str(folder),
        TEMPORAL_ADDRESS=temporal,
        TEMPORAL_NAMESPACE=namespace,
        TEMPORAL_CONFIG_FILE=str(folder / "temporal.toml"),
        **{f"{PREFIX}{name.upper()}": _in_environment(value) for name, value in values.items()},
    )
    command = [sys.executable, "-m", "tests.scenarios.killed_worker", queues.value, when.value, step]
    child = await processes.start("worker", command, log=folder / "worker.log", folder=ROOT, environment=environment)

    async def killed() -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            status = await child.process.wait()
        if status != -signal.SIGKILL:
            raise child.failure(f"ended with status {status}")

    try:
        yield killed
    finally:
        await processes.stop(child)


def _in_environment(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, cast(tuple[object, ...], value)))
    return str(value)


class TemporalServer:
    """Temporal's development server on a file, which may be killed and started again."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self._port: int = probe.getsockname()[1]
        self._folder = folder
        self._child: Child | None = None
        self.address = f"{HOST}:{self._port}"

    async def start(self) -> None:
        """It may take a moment until it answers."""
        command = [DEVELOPMENT_SERVER, "server", "start-dev", "--headless", "--ip", HOST, "--port", str(self._port)]
        file = ["--db-filename", str(self._folder / "temporal.db"), "--log-level", "error"]
        self._child = await processes.start(
            "temporal", [*command, *file], log=self._folder / "temporal.log", folder=self._folder
        )

    async def kill(self) -> None:
        """As `kill -9`."""
        assert self._child is not None
        self._child.process.kill()
        await self._child.process.wait()

    async def stop(self) -> None:
        if self._child is not None:
            await processes.stop(self._child)
