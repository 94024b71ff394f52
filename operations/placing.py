"""Places many bets through the fast door, in order, at the pace that the lanes allow."""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Iterator
from typing import Any, Final

from client.intake import TemporalIntake
from settlement.errors import LaneSaturated
from settlement.intake import BetOutcome
from settlement.limits import MAX_BETS_PER_UPDATE

FIRST_WAIT_SECONDS: Final = 0.2
LONGEST_WAIT_SECONDS: Final = 10.0
"""Waits for a saturated lane double from the first to the longest, with jitter, without end."""


async def place_all(intake: TemporalIntake, bets: Iterable[Any]) -> AsyncGenerator[BetOutcome]:
    """Places bets given as JSON values and yields an outcome for each, lane by lane within a chunk.

    Sending again after a doubt is harmless. Raises `LaneUnavailable`.
    """
    for chunk in _chunks(bets):
        by_lane: defaultdict[int, list[Any]] = defaultdict(list)
        for bet in chunk:
            by_lane[intake.lane_for(bet)].append(bet)
        for lane, in_lane in by_lane.items():
            for outcome in await _place_patiently(intake, lane, in_lane):
                yield outcome


async def _place_patiently(intake: TemporalIntake, lane: int, bets: list[Any]) -> list[BetOutcome]:
    wait = FIRST_WAIT_SECONDS
    while True:
        try:
            return await intake.place_many(lane, bets)
        except LaneSaturated:
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))
            wait = min(wait * 2, LONGEST_WAIT_SECONDS)


def _chunks(bets: Iterable[Any]) -> Iterator[list[Any]]:
    chunk: list[Any] = []
    for bet in bets:
        chunk.append(bet)
        if len(chunk) == MAX_BETS_PER_UPDATE:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
