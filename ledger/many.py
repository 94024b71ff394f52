"""Does many things at once on a ledger, so many at a time, and waits for all even if one fails: what was sent is to be known of."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

_T = TypeVar("_T")


async def each_done(work: Iterable[Coroutine[Any, Any, _T]], at_once: int | None = None) -> list[_T]:
    """What each answers, in their order. Raises what the first of them raised, once all have ended."""
    room = asyncio.Semaphore(at_once) if at_once is not None else None

    async def in_turn(one: Coroutine[Any, Any, _T]) -> _T:
        if room is None:
            return await one
        async with room:
            return await one

    done: list[_T] = []
    for end in await asyncio.gather(*map(in_turn, work), return_exceptions=True):
        if isinstance(end, BaseException):
            raise end
        done.append(end)
    return done
