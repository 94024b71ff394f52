"""Holds one call of a port, so that a test can let the world move on meanwhile, as a stalled worker does."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest

PATIENCE_SECONDS: Final = 60.0


class Stalled:
    """The next call of `target`'s `method`. It has its answer when it stalls, and gives that answer when resumed, however old."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, target: object, method: str) -> None:
        self._call: Callable[..., Awaitable[Any]] = getattr(target, method)
        self._reached = asyncio.Event()
        self._resumed = asyncio.Event()
        monkeypatch.setattr(target, method, self._answer)

    async def reached(self) -> None:
        """Waits until the call has stalled."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._reached.wait()

    def resume(self) -> None:
        """Lets the call go on."""
        self._resumed.set()

    async def _answer(self, *arguments: Any, **options: Any) -> Any:
        first = not self._reached.is_set()
        answer = await self._call(*arguments, **options)
        if first:
            self._reached.set()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._resumed.wait()
        return answer
