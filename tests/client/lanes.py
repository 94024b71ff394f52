"""Lanes as a `Placer` sees them, whose answers a test gives when and as it likes."""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from client.intake import player_of
from settlement.errors import LaneSaturated
from settlement.intake import Answer, BetOutcome

T = TypeVar("T")

PATIENCE_SECONDS: Final = 10.0
POLL_SECONDS: Final = 0.001


def bet(number: int, lane: int = 0, player: int | None = None) -> dict[str, Any]:
    """A bet of `lane`, of a player of its own unless one is named."""
    return {"bet_id": f"{lane}-{number}", "player": f"{lane}:{number if player is None else player}"}


class FakeLanes:
    """Takes every bet at once, but for lanes that are `shut`, and what `refuses` says. `fault`: what its answer to a lane's update is
    lost by, once it has taken the bets.

    `updates`: the bets of each update that reached a lane, answered or not. `known`: all that were taken, in that order.
    """

    def __init__(self) -> None:
        self.updates: defaultdict[int, list[list[Any]]] = defaultdict(list)
        self.known: dict[str, Any] = {}
        self.shut: set[int] = set()
        self.in_flight: Counter[int] = Counter()
        self.most_in_flight: Counter[int] = Counter()
        self.refuses: Callable[[], bool] = lambda: False
        self.fault: Callable[[int], Exception | None] = lambda _: None
        self.gates: defaultdict[int, asyncio.Event] = defaultdict(_opened)

    def lane_for(self, bet: Any, /) -> int:
        player = player_of(bet)
        return int(player.partition(":")[0]) if player is not None else 0

    async def place_written(self, lane: int, bets: Sequence[bytes], /) -> list[BetOutcome]:
        self.in_flight[lane] += 1
        self.most_in_flight[lane] = max(self.most_in_flight[lane], self.in_flight[lane])
        try:
            sent = [json.loads(bet) for bet in bets]
            self.updates[lane].append(sent)
            await self.gates[lane].wait()
            await asyncio.sleep(0)
            if lane in self.shut or self.refuses():
                raise LaneSaturated(f"lane {lane} is full")
            answers = [self._answer(bet) for bet in sent]
            if error := self.fault(lane):
                raise error
            return answers
        finally:
            self.in_flight[lane] -= 1

    def _answer(self, bet: Any) -> BetOutcome:
        bet_id = None if isinstance(bet, str | int) else bet["bet_id"]
        if bet_id is None:
            return BetOutcome(bet_id=None, answer=Answer.REJECTED, detail=f"no object: {bet}")
        answer = Answer.DUPLICATE if bet_id in self.known else Answer.ACCEPTED
        self.known.setdefault(bet_id, bet)
        return BetOutcome(bet_id=bet_id, answer=answer, batch_id="batch" if answer is Answer.DUPLICATE else None)


def _opened() -> asyncio.Event:
    gate = asyncio.Event()
    gate.set()
    return gate


async def soon(what: str, condition: Callable[[], bool]) -> None:
    """Waits until `condition` holds."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"not within {PATIENCE_SECONDS} s: {what}"
        await asyncio.sleep(POLL_SECONDS)


async def within(awaitable: Awaitable[T]) -> T:
    """What comes of `awaitable`, if it comes in time."""
    return await asyncio.wait_for(awaitable, PATIENCE_SECONDS)
