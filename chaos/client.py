"""A client of the casino, as a process that may be killed at any instant: `python -m chaos.client`.

It writes down what it is about to send before it sends it, and what was acknowledged as soon as it was; started again, it sends
once more whatever it has no answer for. It must never take a bet as acknowledged on any other word than the system's.
"""

import asyncio
import random
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import structlog
import typer
from temporalio.client import Client
from temporalio.exceptions import TemporalError

import composition
from chaos.bets import Crowd, Order, any_door
from chaos.books import ACKNOWLEDGED, REFUSED, SENT, Book, Shelf
from client.connection import TemporalUnreachable, connect, end_process
from client.intake import TemporalIntake
from settings import load_settings
from settlement.bets import Bet, lane_of
from settlement.errors import BetRejected, CroupierError
from settlement.intake import Answer, Door

READY: Final = "client ready"
"""Printed once Temporal has answered."""

ANSWER_SECONDS: Final = 15.0
"""After so long without an answer the outcome is in doubt, and the bet is sent again."""

FIRST_WAIT_SECONDS: Final = 0.1
LONGEST_WAIT_SECONDS: Final = 2.0
"""Waits after a doubt double from the first to the longest, with jitter."""

BETS_PER_UPDATE: Final = 30
BETS_PER_TURN: Final = {Door.UPDATE: 60, Door.SIGNAL: 10, Door.WORKFLOW: 5}
"""How many bets of one door are on their way at once."""

OTHER_DOOR_SHARE: Final = 0.3
"""Of the bets in doubt so many go through another door the next time."""

IDLE_SECONDS: Final = 0.2

DOUBTS: Final = (TemporalError, CroupierError, TimeoutError)
"""After these nobody knows whether the bet was taken, or it was not: the lane is saturated, say."""

_log = structlog.get_logger(__name__)


class Placing:
    """Places one client's bets until each is acknowledged."""

    def __init__(self, intake: TemporalIntake, lanes: int, orders: Sequence[Order], folder: Path, client: int) -> None:
        self._intake = intake
        self._lanes = lanes
        self._sent, self._acknowledged = (Book(folder, kind, client) for kind in (SENT, ACKNOWLEDGED))
        self._refused = Book(folder, REFUSED, client)
        self._begun = set(Shelf(folder, SENT, client).ids())
        done = Shelf(folder, ACKNOWLEDGED, client).ids() | Shelf(folder, REFUSED, client).ids()
        self._waiting = {order.bet.bet_id: order for order in orders if order.bet.bet_id not in done}
        self._dice = random.Random()
        self._door = {bet_id: self._next_door(order) for bet_id, order in self._waiting.items()}

    async def place(self, starts_at: float, over_seconds: float) -> None:
        """Places each bet when it is due, `over_seconds` from `starts_at` (seconds since the epoch). Returns once all are."""

        def due(door: Door) -> list[Order]:
            passed = (time.time() - starts_at) / over_seconds
            return [
                order for bet_id, order in self._waiting.items() if self._door[bet_id] is door and order.due <= passed
            ][: BETS_PER_TURN[door]]

        async def keep_placing(door: Door, send: Callable[[Sequence[Order]], Awaitable[None]]) -> None:
            wait = FIRST_WAIT_SECONDS
            while self._waiting:
                if not (orders := due(door)):
                    await asyncio.sleep(IDLE_SECONDS)
                    continue
                self._write_down(orders)
                await send(orders)
                if any(order.bet.bet_id in self._waiting for order in orders):
                    await asyncio.sleep(wait * self._dice.uniform(0.5, 1.0))
                    wait = min(wait * 2, LONGEST_WAIT_SECONDS)
                else:
                    wait = FIRST_WAIT_SECONDS

        async with asyncio.TaskGroup() as doors:
            doors.create_task(keep_placing(Door.UPDATE, self._update))
            doors.create_task(keep_placing(Door.SIGNAL, self._signal))
            doors.create_task(keep_placing(Door.WORKFLOW, self._track))

    def _write_down(self, orders: Sequence[Order]) -> None:
        new = [order.bet for order in orders if order.bet.bet_id not in self._begun]
        if new:
            self._sent.write(new)
            self._begun.update(bet.bet_id for bet in new)

    async def _update(self, orders: Sequence[Order]) -> None:
        async def send(lane: int, chunk: Sequence[Order]) -> None:
            outcomes = await self._intake.place_many(lane, [_as_json(order.bet) for order in chunk])
            taken = [
                order for order, outcome in zip(chunk, outcomes, strict=True) if outcome.answer is not Answer.REJECTED
            ]
            self._acknowledge(taken)
            self._refuse([order for order in chunk if order not in taken])

        await asyncio.gather(
            *(
                self._sending(chunk, partial(send, lane, chunk))
                for lane, in_lane in self._by_lane(orders).items()
                for chunk in _chunks(in_lane, BETS_PER_UPDATE)
            )
        )

    async def _signal(self, orders: Sequence[Order]) -> None:
        async def send(lane: int, in_lane: Sequence[Order]) -> None:
            # A lane without room refuses even an update of no bets; a signal it would reject, and nobody would tell this client.
            await self._intake.place_many(lane, [])
            for order in in_lane:
                await self._intake.signal(_as_json(order.bet))
                self._acknowledge([order])

        await asyncio.gather(
            *(self._sending(in_lane, partial(send, lane, in_lane)) for lane, in_lane in self._by_lane(orders).items())
        )

    async def _track(self, orders: Sequence[Order]) -> None:
        async def send(order: Order) -> None:
            try:
                await self._intake.track(order.bet)
            except BetRejected:
                self._refuse([order])
            else:
                self._acknowledge([order])

        await asyncio.gather(*(self._sending([order], partial(send, order)) for order in orders))

    async def _sending(self, orders: Sequence[Order], send: Callable[[], Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await send()
        except DOUBTS as doubt:
            _log.info("in_doubt", bets=len(orders), door=self._door.get(orders[0].bet.bet_id), doubt=repr(doubt))
            for order in orders:
                if order.bet.bet_id in self._waiting:
                    self._door[order.bet.bet_id] = self._next_door(order)

    def _acknowledge(self, orders: Sequence[Order]) -> None:
        new = [order for order in orders if self._waiting.get(order.bet.bet_id) is order]
        if not new:
            return
        self._acknowledged.write([order.bet for order in new])
        for order in new:
            bet_id = order.bet.bet_id
            del self._waiting[bet_id], self._door[bet_id]
            if order.again is not None:
                self._once_more(order, order.again)

    def _once_more(self, order: Order, door: Door) -> None:
        bet_id = order.bet.bet_id
        self._waiting[bet_id], self._door[bet_id] = Order(order.bet, door, order.due, None), door

    def _refuse(self, orders: Sequence[Order]) -> None:
        if orders:
            self._refused.write([order.bet for order in orders])
        for order in orders:
            _log.error("refused", bet_id=order.bet.bet_id)
            self._waiting.pop(order.bet.bet_id, None)

    def _by_lane(self, orders: Sequence[Order]) -> dict[int, list[Order]]:
        by_lane: defaultdict[int, list[Order]] = defaultdict(list)
        for order in orders:
            by_lane[lane_of(order.bet.player, self._lanes)].append(order)
        return by_lane

    def _next_door(self, order: Order) -> Door:
        in_doubt = order.bet.bet_id in self._begun
        return any_door(self._dice) if in_doubt and self._dice.random() < OTHER_DOOR_SHARE else order.door


def _as_json(bet: Bet) -> dict[str, Any]:
    return bet.model_dump(mode="json", exclude_none=True)


def _chunks(orders: Sequence[Order], size: int) -> list[Sequence[Order]]:
    return [orders[start : start + size] for start in range(0, len(orders), size)]


async def _connected() -> Client:
    while True:
        try:
            return await connect()
        except TemporalUnreachable:
            await asyncio.sleep(IDLE_SECONDS)


async def _run(crowd: Crowd, client: int, folder: Path, starts_at: float, over_seconds: float) -> None:
    settings = load_settings()
    intake = TemporalIntake(await _connected(), composition.batcher_settings(settings))
    print(READY, flush=True)
    placing = Placing(intake, settings.lanes, crowd.orders(client), folder, client)
    await placing.place(starts_at, over_seconds)


def main(
    folder: Annotated[Path, typer.Option(help="Where to write down what was sent and what was acknowledged.")],
    client: Annotated[int, typer.Option(help="Which of the clients this is.")],
    seed: Annotated[int, typer.Option()],
    bets: Annotated[int, typer.Option()],
    players: Annotated[int, typer.Option()],
    clients: Annotated[int, typer.Option()],
    starts_at: Annotated[float, typer.Option(help="Seconds since the epoch.")],
    over_seconds: Annotated[float, typer.Option()],
) -> None:
    """Places one client's share of a run's bets, through all doors, until each is acknowledged."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    crowd = Crowd(seed=seed, bets=bets, players=players, clients=clients)
    asyncio.run(_run(crowd, client, folder, starts_at, over_seconds))
    end_process(0)


if __name__ == "__main__":
    typer.run(main)
