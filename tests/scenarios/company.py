"""Runs scenarios side by side, each on a stage of its own, so that their waits (a dead worker's heartbeat, expiry) overlap."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Concatenate, Final, ParamSpec

import pytest

from tests.scenarios.stage import Stage, Theatre

SIDE_BY_SIDE: Final = 14

P = ParamSpec("P")


class Company:
    """All scenarios that are selected in this process. They begin together with the first whose end is asked for."""

    def __init__(self, theatre: Theatre) -> None:
        self._theatre = theatre
        self._stages = asyncio.Semaphore(SIDE_BY_SIDE)
        self._plays: dict[str, asyncio.Task[None]] = {}

    def begin(self, items: list[pytest.Item]) -> None:
        """Starts every scenario among `items` that has not been started."""
        for item in items:
            play = getattr(getattr(item, "function", None), "play", None)
            if isinstance(play, Play) and item.nodeid not in self._plays:
                parameters: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
                self._plays[item.nodeid] = asyncio.create_task(self._perform(item.nodeid, play, parameters))

    async def end_of(self, nodeid: str) -> None:
        """Returns, or raises, as the scenario does."""
        await self._plays[nodeid]

    async def aclose(self) -> None:
        """Ends what still runs."""
        for play in self._plays.values():
            play.cancel()
        await asyncio.gather(*self._plays.values(), return_exceptions=True)

    async def _perform(self, nodeid: str, play: "Play", parameters: dict[str, Any]) -> None:
        async with self._stages, self._theatre.stage(nodeid, **play.options) as stage:
            await play.act(stage, **parameters)


@dataclass(frozen=True)
class Play:
    """A scenario, and what its stage is to be like."""

    act: Callable[..., Awaitable[None]]
    options: dict[str, Any]


def scenario(act: Callable[Concatenate[Stage, P], Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Makes a test of a scenario, whose first parameter is its stage; the others are parametrised."""
    return staged()(act)


def staged(
    **options: Any,
) -> Callable[[Callable[Concatenate[Stage, P], Awaitable[None]]], Callable[..., Awaitable[None]]]:
    """As `scenario`, with options for `Theatre.stage`."""

    def made(act: Callable[Concatenate[Stage, P], Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def test(company: Company, request: pytest.FixtureRequest, **_: Any) -> None:
            company.begin(request.session.items)
            await company.end_of(request.node.nodeid)

        parametrised = list(inspect.signature(act).parameters.values())[1:]
        own = [p for p in inspect.signature(test).parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        test.__signature__ = inspect.Signature([*own, *parametrised])  # pyright: ignore[reportFunctionMemberAccess]
        test.play = Play(act, options)  # pyright: ignore[reportFunctionMemberAccess]
        test.__name__, test.__qualname__ = act.__name__, act.__qualname__
        test.__doc__, test.__module__ = act.__doc__, act.__module__
        return test

    return made
