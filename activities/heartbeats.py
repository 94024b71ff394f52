"""Keeps a long activity's heartbeat going, so that a killed worker is noticed within the heartbeat time-out."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from temporalio import activity

HEARTBEATS_PER_TIMEOUT: Final = 2
"""The SDK sends them at least 0.8 time-outs apart in any case. The first is not at once: most activities are done by then."""


@asynccontextmanager
async def heartbeating() -> AsyncGenerator[None]:
    """Heartbeats while the block runs, several times per the activity's heartbeat time-out.

    A local activity has none: its workflow task tells of the worker that is lost.
    """
    if activity.info().is_local:
        yield
        return
    timeout = activity.info().heartbeat_timeout
    assert timeout, "an activity that heartbeats needs a heartbeat time-out"
    beating = asyncio.create_task(_beat(timeout / HEARTBEATS_PER_TIMEOUT))
    try:
        yield
    finally:
        beating.cancel()


async def _beat(interval: timedelta) -> None:
    while True:
        await asyncio.sleep(interval.total_seconds())
        activity.heartbeat()
