"""A client writes down before it sends, sends again after any doubt, and takes nothing as acknowledged that was not."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from chaos import client
from chaos.bets import Crowd, Order
from chaos.books import ACKNOWLEDGED, REFUSED, SENT, Shelf
from chaos.client import Placing
from client.intake import TemporalIntake
from settlement.bets import Bet, RejectionReason
from settlement.errors import LaneSaturated
from settlement.intake import Answer, BetOutcome, Door
from tests.domain.samples import bet

LANES = 2
OFTEN = 5
CROWD = Crowd(seed=2, bets=90, players=10, clients=1)


class Kill(BaseException):
    """What no handler catches, as SIGKILL."""


class Queue:
    """An intake that remembers what it took. `trouble` is asked at every call, before and after it took something."""

    def __init__(self, folder: Path, trouble: Callable[[], None]) -> None:
        self._folder = folder
        self._trouble = trouble
        self.taken = Counter[str]()
        self.calls = Counter[Door]()
        self.is_full = False
        self.refuses: set[str] = set()
        self.asked_often = asyncio.Event()
        self._asked = 0

    def _take(self, bet_id: str, door: Door) -> None:
        assert bet_id in Shelf(self._folder, SENT).ids(), "written down before it is sent"
        self.calls[door] += 1
        self._trouble()
        self.taken[bet_id] += 1
        self._trouble()

    async def place_many(self, _lane: int, bets: Sequence[dict[str, Any]]) -> list[BetOutcome]:
        self._asked += 1
        if self._asked == OFTEN:
            self.asked_often.set()
        if self.is_full:
            raise LaneSaturated("full")
        for one in bets:
            self._take(one["bet_id"], Door.UPDATE)
        return [self._outcome(one["bet_id"]) for one in bets]

    def _outcome(self, bet_id: str) -> BetOutcome:
        if bet_id in self.refuses:
            return BetOutcome(bet_id=bet_id, answer=Answer.REJECTED, reason=RejectionReason.UNCOVERED)
        return BetOutcome(bet_id=bet_id, answer=Answer.DUPLICATE if self.taken[bet_id] > 1 else Answer.ACCEPTED)

    async def signal(self, one: dict[str, Any]) -> None:
        self._take(one["bet_id"], Door.SIGNAL)

    async def track(self, one: Bet) -> None:
        self._take(one.bet_id, Door.WORKFLOW)


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_WAIT_SECONDS", "LONGEST_WAIT_SECONDS", "IDLE_SECONDS"):
        monkeypatch.setattr(client, name, 0.001)


async def place(queue: Queue, folder: Path, orders: Sequence[Order]) -> None:
    """Everything is due at once."""
    placing = Placing(cast("TemporalIntake", queue), LANES, orders, folder, client=0)
    async with asyncio.timeout(20):
        await placing.place(time.time() - 2, 1)


def never() -> None:
    return


def at_call(number: int, error: BaseException) -> Callable[[], None]:
    calls = 0

    def trouble() -> None:
        nonlocal calls
        calls += 1
        if calls == number:
            raise error

    return trouble


async def test_every_bet_is_acknowledged_through_all_doors(tmp_path: Path) -> None:
    queue = Queue(tmp_path, never)
    await place(queue, tmp_path, CROWD.orders(0))
    assert Shelf(tmp_path, ACKNOWLEDGED).ids() == Shelf(tmp_path, SENT).ids() == queue.taken.keys()
    assert len(queue.taken) == CROWD.bets
    assert set(queue.calls) == set(Door)
    assert max(queue.taken.values()) == 2, "some are sent once more although they were acknowledged"


@pytest.mark.parametrize("call", range(1, 12))
async def test_bet_is_sent_again_after_any_doubt_whether_or_not_it_was_taken(tmp_path: Path, call: int) -> None:
    queue = Queue(tmp_path, at_call(call, LaneSaturated("full") if call % 2 else TimeoutError()))
    await place(queue, tmp_path, CROWD.orders(0))
    assert len(queue.taken) == CROWD.bets
    assert len(Shelf(tmp_path, ACKNOWLEDGED).ids()) == CROWD.bets


@pytest.mark.parametrize("call", [1, 2, 5, 40, 100, 120])
async def test_client_that_is_killed_sends_again_what_it_has_no_answer_for(tmp_path: Path, call: int) -> None:
    queue = Queue(tmp_path, at_call(call, Kill()))
    with pytest.raises(BaseExceptionGroup):
        await place(queue, tmp_path, CROWD.orders(0))
    acknowledged = set(Shelf(tmp_path, ACKNOWLEDGED).ids())
    assert len(acknowledged) < CROWD.bets
    assert acknowledged <= queue.taken.keys(), "nothing is acknowledged that was not taken"
    await place(queue, tmp_path, CROWD.orders(0))
    assert len(queue.taken) == CROWD.bets
    assert len(Shelf(tmp_path, ACKNOWLEDGED).ids()) == CROWD.bets


async def test_signals_wait_until_the_lane_has_room_for_them(tmp_path: Path) -> None:
    queue = Queue(tmp_path, never)
    queue.is_full = True
    order = Order(bet("b"), Door.SIGNAL, 0.0, None)
    placing = asyncio.create_task(place(queue, tmp_path, [order]))
    await queue.asked_often.wait()
    assert Shelf(tmp_path, SENT).ids() == {"b"}
    assert not queue.calls
    queue.is_full = False
    await placing
    assert sum(queue.calls.values()) == 1


async def test_refused_bet_is_not_acknowledged_and_not_sent_for_ever(tmp_path: Path) -> None:
    queue = Queue(tmp_path, never)
    queue.refuses = {"b"}
    await place(queue, tmp_path, [Order(bet(bet_id), Door.UPDATE, 0.0, None) for bet_id in ("a", "b", "c")])
    assert Shelf(tmp_path, ACKNOWLEDGED).ids() == {"a", "c"}
    assert Shelf(tmp_path, REFUSED).ids() == {"b"}
    assert queue.calls == {Door.UPDATE: 3}
