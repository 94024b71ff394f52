"""Places bets as fast as their lanes take them, and counts the answers as they come. Keeps no bet, so that any number may go through."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from bench.site import BenchStack
from client.placing import Placer
from settlement.bets import Bet
from settlement.intake import Answer

TICKS_PER_SECOND: Final = 10
"""Answers are counted by the tenth of a second."""

SHOWN_REFUSALS: Final = 5


@dataclass
class Flood:
    """What was answered so far. `refused`: the first of the bets that were not taken, and why; `ended_at`: in seconds since the epoch."""

    refused: list[str] = field(default_factory=list[str])
    began_at: float = 0.0
    ended_at: float | None = None
    _ticks: Counter[int] = field(default_factory=Counter[int])

    @property
    def answers(self) -> list[tuple[float, int]]:
        """When how many were answered, in order; in seconds since the epoch."""
        return [(tick / TICKS_PER_SECOND, count) for tick, count in sorted(self._ticks.items())]

    @property
    def seconds(self) -> float:
        """How long it took until all were answered."""
        assert self.ended_at is not None
        return self.ended_at - self.began_at

    async def place(self, running: BenchStack, *clients: Iterable[Bet]) -> None:
        """Places the bets of each client, which are clients of their own. Returns once every bet is answered."""
        self.began_at = time.time()
        async with asyncio.TaskGroup() as placing:
            for bets in clients:
                placing.create_task(self._place(Placer(running.intake), bets))
        self.ended_at = time.time()

    async def _place(self, placer: Placer, bets: Iterable[Bet]) -> None:
        async with aclosing(placer.stream(bets)) as answers:
            async for placed in answers:
                self._ticks[int(time.time() * TICKS_PER_SECOND)] += 1
                if placed.answer is not Answer.ACCEPTED and len(self.refused) < SHOWN_REFUSALS:
                    self.refused.append(f"{placed.bet_id} was {placed.answer}: {placed.reason} {placed.detail}")
