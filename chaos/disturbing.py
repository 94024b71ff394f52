"""Carries a plan out: kills processes and breaks the ledger at the planned instants, and counts what it has done."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from chaos.faults import ExtensionRefused, FaultExtension
from chaos.plan import Fault, Kill, Plan, Target, described
from chaos.services import Service, State, Supervisor
from chaos.watching import Healing
from embedded.processes import POLL_SECONDS

MOST_DOWN: Final = 1
"""A kill waits while more processes than this are not serving, so that a slow machine is not busy with starting them alone."""


class Disturbing:
    """Does what the plan says. `kills` and `faults`: what was done so far, by kind. `log` is told of each."""

    def __init__(
        self,
        plan: Plan,
        supervisor: Supervisor,
        extension: FaultExtension,
        healing: Healing,
        log: Callable[[str], None],
    ) -> None:
        self.kills = Counter[Target]()
        self.faults = Counter[str]()
        self._plan = plan
        self._supervisor = supervisor
        self._extension = extension
        self._healing = healing
        self._log = log

    async def run(self, most_seconds: float) -> None:
        """Returns once all is done: in the time of the plan, or on a slow machine in so many seconds."""
        clock = asyncio.get_running_loop().time
        began, stretch = clock(), max(1.0, most_seconds / self._plan.seconds)

        async def at(seconds: float) -> None:
            await asyncio.sleep(began + seconds - clock())

        async def kill() -> None:
            for planned in self._plan.kills:
                await at(planned.at)
                await self._few_are_down(began + planned.at * stretch)
                await self._kill(planned)

        async def break_ledger() -> None:
            for planned in self._plan.faults:
                await at(planned.at)
                await self._break(planned)

        async with asyncio.TaskGroup() as group:
            group.create_task(kill())
            group.create_task(break_ledger())

    async def _few_are_down(self, latest: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(latest):
                await self._supervisor.until(lambda: self._supervisor.down <= MOST_DOWN)

    async def _kill(self, kill: Kill) -> None:
        while True:
            victims = await self._victims(kill.target)
            victim = victims[int(kill.pick * len(victims))]
            if victim.kill(kill.down_seconds):
                break
            await asyncio.sleep(POLL_SECONDS)
        self._healing.hurt(victim)
        self.kills[victim.target] += 1
        self._log(f"killed {victim.name}, down for {kill.down_seconds:.1f} s")

    async def _victims(self, target: Target) -> list[Service]:
        """Those of that kind that run; any that run once all of them have finished."""

        def alive(services: list[Service]) -> list[Service]:
            return [service for service in services if service.is_alive]

        def candidates() -> list[Service]:
            of_kind = self._supervisor.of(target)
            have_finished = all(service.state is State.FINISHED for service in of_kind)
            return alive(self._supervisor.services if have_finished else of_kind)

        await self._supervisor.until(lambda: bool(candidates()))
        return candidates()

    async def _break(self, fault: Fault) -> None:
        [ledger] = self._supervisor.of(Target.LEDGER)
        await self._supervisor.until(lambda: ledger.state is State.READY)
        try:
            await self._extension.call(fault.method, [fault.parameters])
        except ExtensionRefused as refusal:
            self._log(str(refusal))
            return
        self.faults[fault.kind] += 1
        self._log(f"fault {described(fault)}")
