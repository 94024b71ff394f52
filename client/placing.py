"""Places bets, one by one or in streams of any length, at the pace that their lanes allow.

Bets of one lane go together in updates of up to a hundred. A lane that has no room, or cannot be reached, is tried again for as long as
anybody waits for it, and holds up no other lane. It must never report an answer that the lane's Batcher has not given, and never let
two bets of one player overtake each other: a loss may rest on the win before it.
"""

import asyncio
import random
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Generic, Protocol, TypeVar

from client.intake import player_of, written
from settlement.errors import LaneSaturated, LaneUnavailable
from settlement.intake import BetOutcome
from settlement.limits import MAX_BETS_PER_UPDATE

MAX_UPDATES_IN_FLIGHT: Final = 4
"""Of one lane. Temporal lets all clients together have 10 in flight for one workflow."""

GATHERING_SECONDS: Final = 0.003
"""How long a lane that has nothing in flight lets a bet wait for others."""

MAX_BETS_AHEAD: Final = 10_000
"""Of one stream: bets read whose answers nobody has taken yet, in all lanes. They take some 5 MB."""

BETS_PER_TURN: Final = 200
"""So many bets of a stream that is at hand are read before others get a turn."""

MAX_BETS_PASSED_OVER: Final = 1_000
"""So many bets are looked at, beside those that go, for players who have none in flight."""

FIRST_WAIT_SECONDS: Final = 0.05
LONGEST_WAIT_SECONDS: Final = 5.0
"""Waits for a lane that takes no bets double from the first to the longest, with jitter, and halve with each update that it takes."""

Ticket = TypeVar("Ticket")
Result = TypeVar("Result")


class Lanes(Protocol):
    """What a `client.intake.TemporalIntake` does for a `Placer`."""

    def lane_for(self, bet: Any, /) -> int:
        """The lane of anything given as a bet."""
        ...

    def place_written(self, lane: int, bets: Sequence[bytes], /) -> Coroutine[Any, Any, list[BetOutcome]]:
        """Places bets by one update. Raises `LaneSaturated`, `LaneUnavailable`."""
        ...


class PlacedBet(BetOutcome):
    """The answer for one bet of a stream. `position`: which of the stream's bets it is, from 0."""

    position: int


class Placer:
    """Places bets for one client. Sending a bet again is harmless: it is the same bet by its id and content.

    There is no deadline but the caller's: `asyncio.timeout`. What had no answer by then may have been taken or not.
    """

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._held_up: dict[int, str] = {}
        self._calls = _Dispatch[asyncio.Future[BetOutcome]](
            lanes, self._held_up, _settle, _fail_all, lambda call: not call.done()
        )

    @property
    def held_up(self) -> Mapping[int, str]:
        """The lanes that take no bets now, and what each has said."""
        return self._held_up

    async def place(self, bet: Any) -> BetOutcome:
        """Places one bet, a `Bet` or JSON value. Those that are placed at once go together.

        Raises what sending again cannot mend, as Temporal says it.
        """
        call = asyncio.get_running_loop().create_future()
        pending = self._calls.add(bet, call)
        try:
            return await call
        except asyncio.CancelledError:
            self._calls.forget(pending)
            raise

    async def stream(self, bets: Iterable[Any] | AsyncIterable[Any]) -> AsyncGenerator[PlacedBet]:
        """Places bets, each a `Bet` or JSON value, and yields an answer for each as it comes: in order for a player, not in all.

        Raises what sending again cannot mend, and what `bets` raises once all before has been answered. Who stops earlier closes the
        generator (`contextlib.aclosing`); nothing is left running then, and bets without an answer may have been taken or not.
        """
        stream = _Stream(self._lanes, self._held_up)
        reading = asyncio.create_task(stream.read(bets))
        try:
            while True:
                while stream.answers:
                    yield stream.take()
                if stream.failure is not None:
                    raise stream.failure
                if stream.ended and not stream.ahead:
                    break
                await stream.news.wait()
                stream.news.clear()
            await reading
        finally:
            reading.cancel()
            await asyncio.gather(reading, stream.dispatch.close(), return_exceptions=True)


class _Stream:
    """What one stream has read, sent and been answered. `ahead`: bets read whose answers nobody has taken yet."""

    def __init__(self, lanes: Lanes, held_up: dict[int, str]) -> None:
        self.dispatch = _Dispatch[int](lanes, held_up, self._answered, self._failed, lambda _: True)
        self.answers: deque[PlacedBet] = deque()
        self.failure: Exception | None = None
        self.ahead = 0
        self.ended = False
        self.news = asyncio.Event()
        self._room = asyncio.Event()

    async def read(self, bets: Iterable[Any] | AsyncIterable[Any]) -> None:
        position = 0
        try:
            async with aclosing(_each(bets)) as each:
                async for bet in each:
                    while self.ahead >= MAX_BETS_AHEAD:
                        self._room.clear()
                        await self._room.wait()
                    self.ahead += 1
                    self.dispatch.add(bet, position)
                    position += 1
        finally:
            self.ended = True
            self.news.set()

    def take(self) -> PlacedBet:
        self.ahead -= 1
        self._room.set()
        return self.answers.popleft()

    def _answered(self, position: int, outcome: BetOutcome) -> None:
        self.answers.append(PlacedBet(position=position, **outcome.__dict__))
        self.news.set()

    def _failed(self, _positions: Sequence[int], error: Exception) -> None:
        self.failure = error
        self.news.set()


async def patiently(send: Callable[[], Awaitable[Result]]) -> Result:
    """What `send` gives, tried again for as long as its lane takes nothing: for doors at which one bet goes at a time."""
    wait = FIRST_WAIT_SECONDS
    while True:
        try:
            return await send()
        except (LaneSaturated, LaneUnavailable):
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))
            wait = min(wait * 2, LONGEST_WAIT_SECONDS)


def _settle(call: asyncio.Future[BetOutcome], outcome: BetOutcome) -> None:
    if not call.done():
        call.set_result(outcome)


def _fail_all(calls: Sequence[asyncio.Future[BetOutcome]], error: Exception) -> None:
    for call in calls:
        if not call.done():
            call.set_exception(error)


async def _each(bets: Iterable[Any] | AsyncIterable[Any]) -> AsyncGenerator[Any]:
    if isinstance(bets, AsyncIterable):
        async for bet in bets:
            yield bet
        return
    for number, bet in enumerate(bets, start=1):
        yield bet
        if number % BETS_PER_TURN == 0:
            await asyncio.sleep(0)


@dataclass(slots=True, eq=False)
class _Pending(Generic[Ticket]):
    """A bet on its way, and whose it is. `update`: what sends it, while one does."""

    bet: bytes
    player: str | None
    ticket: Ticket
    update: "_Update[Ticket] | None" = None


@dataclass(slots=True, eq=False)
class _Update(Generic[Ticket]):
    bets: list[_Pending[Ticket]]
    task: asyncio.Task[list[BetOutcome]]


@dataclass(slots=True, eq=False)
class _Lane(Generic[Ticket]):
    """Bets of one lane in order. `busy`: players with bets in flight, whose next bets stay back.

    `timer` lets no update go until it is over, or only full ones while the lane is gathering. `wait_seconds`: how long to stay back from
    a lane that takes no bets; 0 while it does. `unfilled`: how many bets were waiting when no full update could be made of them.
    """

    number: int
    waiting: deque[_Pending[Ticket]] = field(default_factory=deque[_Pending[Ticket]])
    busy: set[str] = field(default_factory=set[str])
    in_flight: int = 0
    wait_seconds: float = 0.0
    timer: asyncio.TimerHandle | None = None
    unfilled: int = 0

    @property
    def may_send(self) -> bool:
        if self.wait_seconds:
            return self.timer is None and self.in_flight == 0
        return self.in_flight < MAX_UPDATES_IN_FLIGHT

    def take(self, is_wanted: Callable[[Ticket], bool]) -> list[_Pending[Ticket]]:
        """Up to an update's bets off the head, but for players with bets in flight, and for those that nobody waits for."""
        taken: list[_Pending[Ticket]] = []
        passed: list[_Pending[Ticket]] = []
        while self.waiting and len(taken) < MAX_BETS_PER_UPDATE and len(passed) < MAX_BETS_PASSED_OVER:
            pending = self.waiting.popleft()
            if not is_wanted(pending.ticket):
                continue
            (passed if pending.player in self.busy else taken).append(pending)
        self.waiting.extendleft(reversed(passed))
        return taken

    def put_back(self, bets: Sequence[_Pending[Ticket]]) -> None:
        self.waiting.extendleft(reversed(bets))


class _Dispatch(Generic[Ticket]):
    """Sends bets, lane by lane. A task runs for each update in flight, and nothing else does.

    As long as an update of a lane is in flight only full ones go beside it: what comes meanwhile gathers.
    """

    def __init__(
        self,
        lanes: Lanes,
        held_up: dict[int, str],
        answer: Callable[[Ticket, BetOutcome], None],
        fail: Callable[[Sequence[Ticket], Exception], None],
        is_wanted: Callable[[Ticket], bool],
    ) -> None:
        self._door = lanes
        self._held_up = held_up
        self._answer = answer
        self._fail = fail
        self._is_wanted = is_wanted
        self._lanes: dict[int, _Lane[Ticket]] = {}
        self._tasks: set[asyncio.Task[list[BetOutcome]]] = set()
        self._closed = False

    def add(self, bet: Any, ticket: Ticket) -> _Pending[Ticket]:
        """Takes a bet to send. `answer` or `fail` will be told of its ticket."""
        pending = _Pending(written(bet), player_of(bet), ticket)
        number = self._door.lane_for(bet)
        lane = self._lanes.get(number)
        if lane is None:
            lane = self._lanes[number] = _Lane[Ticket](number)
        lane.waiting.append(pending)
        if len(lane.waiting) - lane.unfilled >= MAX_BETS_PER_UPDATE:
            self._send_what_may_go(lane)
        elif lane.timer is None and lane.in_flight == 0:
            self._hold(lane, GATHERING_SECONDS)
        return pending

    def forget(self, pending: _Pending[Ticket]) -> None:
        """Nobody waits for this bet any more. An update all of whose bets are forgotten is given up."""
        update = pending.update
        if update is not None and not any(self._is_wanted(each.ticket) for each in update.bets):
            update.task.cancel()

    async def close(self) -> None:
        """Gives up all that has no answer."""
        self._closed = True
        for lane in self._lanes.values():
            self._held_up.pop(lane.number, None)
            if lane.timer is not None:
                lane.timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _hold(self, lane: _Lane[Ticket], seconds: float) -> None:
        def over() -> None:
            lane.timer = None
            self._send_what_may_go(lane)

        if lane.timer is not None:
            lane.timer.cancel()
        lane.timer = asyncio.get_running_loop().call_later(seconds, over)

    def _send_what_may_go(self, lane: _Lane[Ticket]) -> None:
        while lane.may_send and lane.waiting:
            bets = lane.take(self._is_wanted)
            if lane.in_flight and len(bets) < MAX_BETS_PER_UPDATE:
                lane.put_back(bets)
                lane.unfilled = len(lane.waiting)
                return
            if bets:
                self._send(lane, bets)
        if not lane.waiting and not lane.in_flight and lane.timer is None:
            del self._lanes[lane.number]
            self._held_up.pop(lane.number, None)

    def _send(self, lane: _Lane[Ticket], bets: list[_Pending[Ticket]]) -> None:
        lane.in_flight += 1
        lane.busy.update(pending.player for pending in bets if pending.player is not None)
        task = asyncio.create_task(self._door.place_written(lane.number, [pending.bet for pending in bets]))
        self._tasks.add(task)
        update = _Update(bets, task)
        for pending in bets:
            pending.update = update
        task.add_done_callback(partial(self._sent, lane, bets))

    def _sent(self, lane: _Lane[Ticket], bets: list[_Pending[Ticket]], task: asyncio.Task[list[BetOutcome]]) -> None:
        self._tasks.discard(task)
        if self._closed:
            return
        lane.in_flight -= 1
        lane.unfilled = 0
        lane.busy.difference_update(pending.player for pending in bets if pending.player is not None)
        for pending in bets:
            pending.update = None
        error = None if task.cancelled() else task.exception()
        if isinstance(error, LaneSaturated | LaneUnavailable):
            lane.put_back(bets)
            self._stay_back(lane, str(error))
            return
        if isinstance(error, Exception):
            self._fail([pending.ticket for pending in bets], error)
        elif not task.cancelled():
            self._come_nearer(lane)
            for pending, outcome in zip(bets, task.result(), strict=True):
                self._answer(pending.ticket, outcome)
        self._send_what_may_go(lane)

    def _stay_back(self, lane: _Lane[Ticket], why: str) -> None:
        lane.wait_seconds = min(max(lane.wait_seconds * 2, FIRST_WAIT_SECONDS), LONGEST_WAIT_SECONDS)
        self._held_up[lane.number] = why
        self._hold(lane, lane.wait_seconds * random.uniform(0.5, 1.0))

    def _come_nearer(self, lane: _Lane[Ticket]) -> None:
        lane.wait_seconds /= 2
        if lane.wait_seconds < FIRST_WAIT_SECONDS:
            lane.wait_seconds = 0.0
            self._held_up.pop(lane.number, None)
