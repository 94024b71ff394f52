"""Answers of a node's that serve for a moment, so that not every batch asks for them anew."""

import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """The latest answer by key, for `seconds`. Keys are nodes and lanes, so there are never many."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._known: dict[Key, tuple[float, Value]] = {}

    async def get(self, key: Key, ask: Callable[[], Awaitable[Value]], *, anew: bool) -> Value:
        """What was answered last, or what `ask` answers now: if that was too long ago, or `anew`. Raises what `ask` raises."""
        now = time.monotonic()
        if not anew and key in self._known:
            asked_at, value = self._known[key]
            if now - asked_at <= self._seconds:
                return value
        value = await ask()
        self._known[key] = now, value
        return value
