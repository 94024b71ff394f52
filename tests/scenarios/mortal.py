"""Workers that die, hang or stop for a moment exactly where a test says: before or after any call of a port.

A dead worker answers nobody: its calls reach nothing any more, and Temporal hears of it only by the heartbeats that stop coming.
"""

import asyncio
import itertools
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any, Final, NoReturn, TypeVar, cast

from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from settlement.lifecycle import Transition

PATIENCE_SECONDS: Final = 90.0
"""How long anything may take that a scenario waits for, on a slow and busy machine."""

T = TypeVar("T")


class Dead(BaseException):
    """The worker ends here. No handler of errors turns this into an answer."""


DURING_SECONDS: Final = 0.05
"""After so long what takes long is under way, and not done."""


class When(StrEnum):
    """On which side of a call's effect, or in the middle of what leads to it."""

    BEFORE = "before"
    DURING = "during"
    AFTER = "after"


class Life:
    """One worker's life. `unheard` is set when Temporal hears no more of it: it is dead, or cut off."""

    _numbers = itertools.count(1)

    def __init__(self) -> None:
        self.number = next(self._numbers)
        self.unheard = asyncio.Event()
        self.dead = False

    def die(self) -> None:
        """From now on its calls reach nothing."""
        self.dead = True
        self.unheard.set()


class Cue(ABC):
    """What happens once, when some worker comes by."""

    def __init__(self, step: str, when: When) -> None:
        self.step = step
        self.when = when
        self._reached = asyncio.Event()
        self._resumed = asyncio.Event()

    async def reached(self) -> None:
        """Returns when it happens."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._reached.wait()

    @property
    def has_happened(self) -> bool:
        return self._reached.is_set()

    def resume(self) -> None:
        """Lets a call that is held go on."""
        self._resumed.set()

    async def play(self, life: Life) -> None:
        self._reached.set()
        await self._act(life)

    @abstractmethod
    async def _act(self, life: Life) -> None: ...

    async def _wait(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._resumed.wait()


class _Death(Cue):
    async def _act(self, life: Life) -> None:
        if self.when is When.DURING:
            asyncio.get_running_loop().call_later(DURING_SECONDS, life.die)
        else:
            life.die()


class _Hold(Cue):
    async def _act(self, life: Life) -> None:
        del life
        await self._wait()


class _CutOff(Cue):
    async def _act(self, life: Life) -> None:
        life.unheard.set()
        await self._wait()


class _Failure(Cue):
    def __init__(self, step: str, when: When, error: Exception) -> None:
        super().__init__(step, when)
        self._error = error

    async def _act(self, life: Life) -> None:
        del life
        raise self._error


class Script:
    """What is to happen to the workers of one stage. A step is `port.method`, with the status where it records a transition."""

    def __init__(self) -> None:
        self._cues: list[Cue] = []
        self.passed: list[str] = []

    def kill(self, step: str, when: When) -> Cue:
        """The worker that comes by next dies there."""
        return self._add(_Death(step, when))

    def hold(self, step: str, when: When = When.BEFORE) -> Cue:
        """The next call is held until resumed; the worker lives, and Temporal hears so."""
        return self._add(_Hold(step, when))

    def cut_off(self, step: str, when: When = When.BEFORE) -> Cue:
        """The next worker that comes by stops there, and is lost to Temporal for good; resumed, it goes on with what it was doing."""
        return self._add(_CutOff(step, when))

    def fail(self, step: str, when: When, error: Exception) -> Cue:
        """The next call raises `error`, having had its effect or not."""
        return self._add(_Failure(step, when, error))

    async def pass_by(self, steps: tuple[str, ...], when: When, life: Life) -> None:
        """A worker comes by."""
        if life.dead:
            raise Dead
        self.passed += [f"{when} {steps[-1]}"]
        for cue in self._cues:
            if cue.when is when and cue.step in steps:
                self._cues.remove(cue)
                await cue.play(life)
                break
        if life.dead:
            raise Dead

    def _add(self, cue: Cue) -> Cue:
        self._cues.append(cue)
        return cue


class _Mortal:
    def __init__(self, port: Any, name: str, script: Script, life: Life) -> None:
        self._port = port
        self._name = name
        self._script = script
        self._life = life

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        call: Callable[..., Awaitable[Any]] = getattr(self._port, method)

        async def mortal(*arguments: Any, **named: Any) -> Any:
            steps = self._steps(method, arguments)
            await self._script.pass_by(steps, When.BEFORE, self._life)
            await self._script.pass_by(steps, When.DURING, self._life)
            answer = await call(*arguments, **named)
            await self._script.pass_by(steps, When.AFTER, self._life)
            return answer

        return mortal

    def _steps(self, method: str, arguments: tuple[Any, ...]) -> tuple[str, ...]:
        step = f"{self._name}.{method}"
        statuses = [argument.status for argument in arguments if isinstance(argument, Transition)]
        return step, *(f"{step} {status}" for status in statuses)


def mortal(port: T, name: str, script: Script, life: Life) -> T:
    """`port`, each of whose calls comes by the script, called `name` there."""
    return cast(T, _Mortal(port, name, script, life))


class Unheard(Interceptor):
    """Keeps from Temporal whatever a worker has to say once it is dead or cut off."""

    def __init__(self, life: Life) -> None:
        self._life = life

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _UnheardActivity(next, self._life)


class _UnheardActivity(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, life: Life) -> None:
        super().__init__(next)
        self._life = life

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        if self._life.unheard.is_set() and activity.info().is_local:
            _end_unheard()
        work = asyncio.ensure_future(self.next.execute_activity(input))
        work.add_done_callback(_retrieve)
        lost = asyncio.ensure_future(self._life.unheard.wait())
        try:
            await asyncio.wait({work, lost}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            lost.cancel()
            if self._life.dead or not self._life.unheard.is_set():
                # Has no effect on what is done.
                work.cancel()
        if self._life.unheard.is_set():
            _end_unheard()
        return await work


def _end_unheard() -> NoReturn:
    """Without a word to the server. A local activity cannot end so: its result is lost, and the next worker does it again in time."""
    if activity.info().is_local:
        raise ApplicationError("the worker is lost")
    activity.raise_complete_async()


def _retrieve(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()
