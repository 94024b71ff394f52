"""Keeps a long activity's heartbeat going, so that a killed worker is noticed within the heartbeat time-out."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from temporalio import activity

HEARTBEAT_AFTER: Final = 0.75
"""How much of its time-out goes by before a heartbeat, the first included: each is a write of Temporal's, and most activities are done
before theirs is due. The SDK sends them at least 0.8 time-outs apart in any case."""


@asynccontextmanager
async def heartbeating() -> AsyncGenerator[None]:
    """Heartbeats while the block runs, in time for the activity's heartbeat time-out.

    A local activity has none: its workflow task tells of the worker that is lost.
    """
    if activity.info().is_local:
        yield
        return
    timeout = activity.info().heartbeat_timeout
    assert timeout, "an activity that heartbeats needs a heartbeat time-out"
    beating = asyncio.create_task(_beat(timeout * HEARTBEAT_AFTER))
    try:
        yield
    finally:
        beating.cancel()


async def _beat(interval: timedelta) -> None:
    while True:
        await asyncio.sleep(interval.total_seconds())
        activity.heartbeat()
