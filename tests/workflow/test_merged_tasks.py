"""A worker that takes a lane up where another has stopped may get two of its tasks as one, at the time of the later one.

So does the SDK if a task without commands follows another such and is followed by an update at once (sdk-core takes it for a heartbeat).
A replay tells the tasks apart. So what a lane does must not depend on what time it was told: the next worker would make another history
of the same events, and the lane would stand.
"""

import asyncio
from pathlib import Path
from typing import Final

import pytest
from temporalio.api.enums.v1 import EventType

from tests.workflow.casino import open_casino, some_bets
from workflows.batcher import Batcher

WITHOUT_WORKERS_SECONDS: Final = 2.2
SHORTER, LONGER = 2.0, 4.0
"""The shorter window ends meanwhile; with the longer one, the next worker gets the last signal and an update as one task."""


@pytest.mark.parametrize(("signals", "window"), [(1, SHORTER), (3, LONGER)])
async def test_a_batch_is_cut_at_the_same_point_of_the_history_whatever_time_the_lane_was_told(
    journal_path: Path, signals: int, window: float
) -> None:
    signalled, placed = some_bets(signals, "signalled"), some_bets(1)
    async with open_casino(journal_path, skips_time=False, at_work=False) as casino:
        async with casino.at_work(cached_workflows=0):
            lane = await casino.open_lane(window_seconds=window)
            for _ in range(2):
                await lane.signal(Batcher.pause)
                assert (await casino.status()).paused
            # Nothing is to be done about the second pause, and nothing but to await the window about these.
            for queued, each in enumerate(signalled, 1):
                await casino.signal(each)
                assert (await casino.status()).queued == queued
        await asyncio.sleep(WITHOUT_WORKERS_SECONDS)
        async with casino.at_work():
            await casino.place_many(placed)
            await lane.signal(Batcher.resume)
            await casino.status()
        async with casino.at_work():
            await casino.idle()
            await casino.assert_settled_once([*signalled, *placed])
        events = [event.event_type async for event in lane.fetch_history_events()]
        assert EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED not in events
