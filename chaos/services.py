"""Keeps the stack's processes running, as a production supervisor would, and kills them when it is told to.

It kills only what it has started, by process id. A process that ends by itself is started again and counted: a worker may give up
where its ledger is away, but nothing else may.
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Final

from chaos.plan import Target
from embedded.processes import POLL_SECONDS, Child, ChildFailed, start
from embedded.site import ROOT

RESTART_SECONDS: Final = 1.0
"""Between the end of a process that nobody killed and its next start."""


class State(Enum):
    """*Finished*: it ended by itself with status 0 and is needed no more."""

    DOWN = auto()
    STARTING = auto()
    READY = auto()
    FINISHED = auto()


@dataclass(eq=False)
class Service:
    """One process, under one name, start after start. `starts`: how often it was started; `ends`: how often it ended unasked."""

    name: str
    target: Target
    command: Sequence[str | Path]
    ready_line: str
    environment: Mapping[str, str]
    logs: Path
    starts: int = 0
    ends: int = 0
    state: State = State.DOWN
    _child: Child | None = None
    _down_seconds: float | None = None

    @property
    def is_alive(self) -> bool:
        return self.state in (State.STARTING, State.READY)

    @property
    def process_id(self) -> int:
        """Of the process that runs, or ran last."""
        assert self._child is not None
        return self._child.process.pid

    def kill(self, down_seconds: float) -> bool:
        """SIGKILL, now; it is started again after so many seconds. False if it has just ended by itself."""
        assert self._child is not None
        try:
            self._child.process.kill()
        except ProcessLookupError:
            return False
        self._down_seconds, self.state = down_seconds, State.DOWN
        return True

    async def keep(self) -> None:
        """Runs until it finishes or is cancelled; then the process is dead."""
        try:
            while self.state is not State.FINISHED:
                await self._run_once()
        finally:
            await self.end()

    async def end(self) -> None:
        """Kills the process if it runs: its state is on disk, and nobody needs it to stop in order."""
        if self._child is not None and self._child.process.returncode is None:
            self._child.process.kill()
            await self._child.process.wait()

    async def _run_once(self) -> None:
        self.starts += 1
        log = self.logs / f"{self.name}-{self.starts:03}.log"
        self._child = await start(self.name, self.command, log=log, folder=ROOT, environment=self.environment)
        self.state = State.STARTING
        with suppress(ChildFailed):
            await self._child.wait_for_line(self.ready_line, math.inf)
            if self._down_seconds is None:
                self.state = State.READY
        status = await self._child.process.wait()
        if status == 0 and self.target is Target.CLIENT:
            self.state = State.FINISHED
            return
        self.state = State.DOWN
        pause = RESTART_SECONDS
        if self._down_seconds is None:
            self.ends += 1
        else:
            pause, self._down_seconds = self._down_seconds, None
        await asyncio.sleep(pause)


class Supervisor:
    """All processes of a run."""

    def __init__(self, logs: Path) -> None:
        self.services: list[Service] = []
        self._logs = logs
        self._keeping: dict[Service, asyncio.Task[None]] = {}

    def keep(
        self,
        name: str,
        target: Target,
        command: Sequence[str | Path],
        ready_line: str,
        environment: Mapping[str, str],
    ) -> Service:
        """Starts a process and keeps it running. It serves once it has printed `ready_line`."""
        service = Service(name, target, command, ready_line, environment, self._logs)
        self.services.append(service)
        self._keeping[service] = asyncio.create_task(service.keep())
        return service

    def of(self, target: Target) -> list[Service]:
        """The services of one kind."""
        return [service for service in self.services if service.target is target]

    @property
    def down(self) -> int:
        """How many services do not serve now, but will."""
        return sum(service.state in (State.DOWN, State.STARTING) for service in self.services)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Returns once `holds` does. Raises what has ended the keeping of a process."""
        while not holds():
            for task in self._keeping.values():
                if task.done() and not task.cancelled():
                    task.result()
            await asyncio.sleep(POLL_SECONDS)

    async def ready(self, *services: Service) -> None:
        """Returns once all of these serve at the same time, or have finished."""
        await self.until(lambda: all(service.state in (State.READY, State.FINISHED) for service in services))

    async def stop(self, *spared: Service) -> None:
        """Kills everything that it has started, but those."""
        ending = [task for service, task in self._keeping.items() if service not in spared]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
