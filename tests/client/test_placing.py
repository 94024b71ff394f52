"""A `Placer` against lanes that answer when and as the test says: what it sends together, holds back, sends again, and reports."""

import asyncio
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import aclosing
from itertools import count
from types import CoroutineType
from typing import Any

import pytest

from client import placing
from client.placing import MAX_BETS_AHEAD, MAX_UPDATES_IN_FLIGHT, PlacedBet, Placer
from settlement.errors import LaneUnavailable
from settlement.intake import Answer, BetOutcome
from settlement.limits import MAX_BETS_PER_UPDATE
from tests.client import lanes as fakes
from tests.client.lanes import FakeLanes, bet, soon, within


@pytest.fixture
def lanes() -> FakeLanes:
    return FakeLanes()


@pytest.fixture
def placer(lanes: FakeLanes, monkeypatch: pytest.MonkeyPatch) -> Placer:
    monkeypatch.setattr(placing, "LONGEST_WAIT_SECONDS", 0.02)
    monkeypatch.setattr(placing, "FIRST_WAIT_SECONDS", 0.001)
    return Placer(lanes)


def is_ours(task: asyncio.Task[Any]) -> bool:
    """Whether a `Placer` has begun it, or it is a lane's answer to one. Other tests' servers and workers have theirs in the same loop."""
    coroutine = task.get_coro()
    return isinstance(coroutine, CoroutineType) and coroutine.cr_code.co_filename in (placing.__file__, fakes.__file__)


@pytest.fixture(autouse=True)
async def nothing_is_left_running() -> AsyncGenerator[None]:
    yield
    await soon("all tasks have ended", lambda: not any(map(is_ours, asyncio.all_tasks())))


def middle(least: float, most: float) -> float:
    return (least + most) / 2


async def answers_of(placer: Placer, bets: Any) -> list[PlacedBet]:
    async with aclosing(placer.stream(bets)) as answers:
        return [answer async for answer in answers]


async def test_a_stream_is_grouped_by_lane_and_every_position_is_answered_once(
    lanes: FakeLanes, placer: Placer
) -> None:
    bets = [bet(n, lane=n % 3) for n in range(1_000)]
    answers = await within(answers_of(placer, bets))
    assert sorted(answer.position for answer in answers) == list(range(len(bets)))
    assert all(answer.bet_id == bets[answer.position]["bet_id"] for answer in answers)
    assert {answer.answer for answer in answers} == {Answer.ACCEPTED}
    for lane, updates in lanes.updates.items():
        assert {lanes.lane_for(sent) for update in updates for sent in update} == {lane}
        # All full but the last.
        assert [len(update) for update in updates] == [100, 100, 100, 34 if lane == 0 else 33]


async def test_an_asynchronous_stream_that_pauses_is_not_held_back_until_an_update_is_full(
    lanes: FakeLanes, placer: Placer
) -> None:
    more = asyncio.Event()

    async def bets() -> AsyncGenerator[Any]:
        yield bet(0)
        await more.wait()
        yield bet(1)

    async with aclosing(placer.stream(bets())) as answers:
        assert (await within(anext(answers))).position == 0
        more.set()
        assert (await within(anext(answers))).position == 1
        with pytest.raises(StopAsyncIteration):
            await within(anext(answers))
    assert [len(update) for update in lanes.updates[0]] == [1, 1]


async def test_updates_of_a_lane_in_flight_are_bounded(lanes: FakeLanes, placer: Placer) -> None:
    lanes.gates[0].clear()
    placed = asyncio.create_task(answers_of(placer, [bet(n) for n in range(2_000)]))
    await soon("updates are in flight", lambda: lanes.in_flight[0] == MAX_UPDATES_IN_FLIGHT)
    lanes.gates[0].set()
    assert len(await within(placed)) == 2_000
    assert lanes.most_in_flight[0] == MAX_UPDATES_IN_FLIGHT


async def test_bets_of_one_player_never_overtake_each_other(lanes: FakeLanes, placer: Placer) -> None:
    asked = count()
    lanes.refuses = lambda: next(asked) % 3 == 1
    answers = await within(answers_of(placer, [bet(n, player=n % 150) for n in range(3_000)]))
    assert len(answers) == 3_000
    assert lanes.most_in_flight[0] > 1
    taken: dict[str, int] = {}
    for bet_id, sent in lanes.known.items():
        number = int(bet_id.partition("-")[2])
        assert taken.get(sent["player"], -1) < number
        taken[sent["player"]] = number


async def test_a_saturated_lane_holds_up_no_other_and_is_tried_until_it_has_room(
    lanes: FakeLanes, placer: Placer
) -> None:
    lanes.shut.add(1)
    answered: list[PlacedBet] = []

    async def place() -> None:
        async for answer in placer.stream([bet(n, lane=n % 2) for n in range(1_000)]):
            answered.append(answer)  # noqa: PERF401 - what is answered so far is looked at

    placed = asyncio.create_task(place())
    await soon("the other lane's bets are placed", lambda: len(answered) == 500)
    assert {answer.position % 2 for answer in answered} == {0}
    await soon("the lane is tried again", lambda: len(lanes.updates[1]) > 5)
    assert dict(placer.held_up) == {1: "lane 1 is full"}
    lanes.most_in_flight.clear()
    await soon("it is tried once more", lambda: len(lanes.updates[1]) > 10)
    assert lanes.most_in_flight[1] == 1, "one at a time asks whether there is room"
    lanes.shut.clear()
    await within(placed)
    assert len(answered) == 1_000
    assert {answer.answer for answer in answered} == {Answer.ACCEPTED}
    assert not placer.held_up


async def test_waits_for_a_saturated_lane_double_to_the_longest_with_jitter(
    lanes: FakeLanes, placer: Placer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placing, "FIRST_WAIT_SECONDS", 0.0011)
    monkeypatch.setattr(placing, "LONGEST_WAIT_SECONDS", 0.0044)
    monkeypatch.setattr(placing.random, "uniform", middle)
    waits: list[float] = []
    loop = asyncio.get_running_loop()
    call_later = loop.call_later

    def noted(delay: float, *args: Any, **options: Any) -> asyncio.TimerHandle:
        waits.append(delay)
        return call_later(delay, *args, **options)

    monkeypatch.setattr(loop, "call_later", noted)
    lanes.shut.add(0)
    placed = asyncio.create_task(placer.place(bet(0)))
    await soon("it was refused some times", lambda: len(lanes.updates[0]) > 4)
    placed.cancel()
    jittered = [0.0011 * 0.75, 0.0022 * 0.75, 0.0044 * 0.75, 0.0044 * 0.75]
    assert [wait for wait in waits if wait in jittered][:4] == jittered


async def test_a_lane_that_takes_bets_again_is_not_called_held_up(
    lanes: FakeLanes, placer: Placer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placing, "LONGEST_WAIT_SECONDS", placing.FIRST_WAIT_SECONDS)
    lanes.shut.add(0)
    placed = asyncio.create_task(answers_of(placer, [bet(n) for n in range(500)]))
    await soon("it is held up", lambda: bool(placer.held_up))
    # One update is answered, the next ones are not yet.
    lanes.fault = lambda lane: lanes.gates[lane].clear()
    lanes.shut.clear()
    await soon("it is not any more", lambda: not placer.held_up)
    assert not placed.done()
    lanes.fault = lambda _: None
    lanes.gates[0].set()
    await within(placed)


async def test_a_bet_whose_answer_was_lost_is_a_duplicate_with_its_batch(lanes: FakeLanes, placer: Placer) -> None:
    lost = iter([LaneUnavailable("answer lost")])
    lanes.fault = lambda _: next(lost, None)
    (answer,) = await within(answers_of(placer, [bet(0)]))
    assert (answer.answer, answer.batch_id) == (Answer.DUPLICATE, "batch")


async def test_what_is_no_bet_is_answered_at_its_position(placer: Placer) -> None:
    unwritable = {"bet_id": "\ud800"}
    answers = await within(answers_of(placer, [bet(0), "no json", 7, unwritable, bet(1)]))
    by_position = {answer.position: answer.answer for answer in answers}
    assert [by_position[at] for at in range(5)] == [Answer.ACCEPTED, *[Answer.REJECTED] * 3, Answer.ACCEPTED]


async def test_a_stream_reads_no_further_ahead_than_its_bound(lanes: FakeLanes, placer: Placer) -> None:
    read = 0

    def endless() -> Iterator[Any]:
        nonlocal read
        while True:
            read += 1
            yield bet(read, lane=read % 2)

    lanes.shut.add(1)
    async with aclosing(placer.stream(endless())) as answers:
        for _ in range(MAX_BETS_AHEAD // 2 + 1_000):
            await within(anext(answers))
        taken = MAX_BETS_AHEAD // 2 + 1_000
        await soon("it has stopped reading", lambda: read >= taken + MAX_BETS_AHEAD)
        await asyncio.sleep(0.01)
        assert read <= taken + MAX_BETS_AHEAD + 1


async def test_answers_that_nobody_takes_stop_the_reading_too(lanes: FakeLanes, placer: Placer) -> None:
    read = 0

    def endless() -> Iterator[Any]:
        nonlocal read
        while True:
            read += 1
            yield bet(read)

    async with aclosing(placer.stream(endless())) as answers:
        await within(anext(answers))
        await soon("all ahead are answered", lambda: len(lanes.known) >= MAX_BETS_AHEAD)
        await asyncio.sleep(0.01)
        assert read <= MAX_BETS_AHEAD + 2


async def test_bets_placed_one_by_one_at_once_go_together(lanes: FakeLanes, placer: Placer) -> None:
    answers = await within(asyncio.gather(*(placer.place(bet(n, lane=n % 2)) for n in range(60))))
    assert [answer.bet_id for answer in answers] == [bet(n, lane=n % 2)["bet_id"] for n in range(60)]
    assert {lane: [len(update) for update in updates] for lane, updates in lanes.updates.items()} == {0: [30], 1: [30]}


async def test_what_comes_while_an_update_is_in_flight_goes_in_the_next(lanes: FakeLanes, placer: Placer) -> None:
    lanes.gates[0].clear()
    first = asyncio.create_task(placer.place(bet(0)))
    await soon("it is in flight", lambda: lanes.in_flight[0] == 1)
    later = [asyncio.create_task(placer.place(bet(n))) for n in range(1, 20)]
    await asyncio.sleep(placing.GATHERING_SECONDS * 3)
    assert len(lanes.updates[0]) == 1
    lanes.gates[0].set()
    await within(asyncio.gather(first, *later))
    assert [len(update) for update in lanes.updates[0]] == [1, 19]


async def test_a_full_update_does_not_wait_for_the_one_in_flight(lanes: FakeLanes, placer: Placer) -> None:
    lanes.gates[0].clear()
    calls = [asyncio.create_task(placer.place(bet(n))) for n in range(MAX_BETS_PER_UPDATE + 1)]
    await soon("two are in flight", lambda: lanes.in_flight[0] >= 1)
    calls += [asyncio.create_task(placer.place(bet(n))) for n in range(200, 200 + MAX_BETS_PER_UPDATE)]
    await soon("two are in flight", lambda: lanes.in_flight[0] == 2)
    lanes.gates[0].set()
    await within(asyncio.gather(*calls))


async def test_a_deadline_ends_the_wait_for_a_saturated_lane_and_the_bet_is_not_sent_again(
    lanes: FakeLanes, placer: Placer
) -> None:
    lanes.shut.add(0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await placer.place(bet(0))
    sent = len(lanes.updates[0])
    assert sent > 0
    lanes.shut.clear()
    assert (await within(placer.place(bet(1)))).answer is Answer.ACCEPTED
    assert lanes.updates[0][sent:] == [[bet(1)]]


async def test_one_caller_who_gives_up_does_not_take_the_others_of_his_update_with_him(
    lanes: FakeLanes, placer: Placer
) -> None:
    lanes.gates[0].clear()
    impatient, patient = (asyncio.create_task(placer.place(bet(n))) for n in range(2))
    await soon("both are in flight", lambda: lanes.in_flight[0] == 1)
    impatient.cancel()
    await asyncio.sleep(0)
    lanes.gates[0].set()
    assert (await within(patient)).answer is Answer.ACCEPTED


async def test_an_update_that_nobody_waits_for_any_more_is_given_up(lanes: FakeLanes, placer: Placer) -> None:
    lanes.gates[0].clear()
    calls = [asyncio.create_task(placer.place(bet(n))) for n in range(2)]
    await soon("both are in flight", lambda: lanes.in_flight[0] == 1)
    for call in calls:
        call.cancel()
    await soon("it is given up", lambda: lanes.in_flight[0] == 0)
    lanes.gates[0].set()
    assert (await within(placer.place(bet(9)))).answer is Answer.ACCEPTED


async def test_an_update_given_up_before_it_was_sent_frees_its_lane(lanes: FakeLanes, placer: Placer) -> None:
    lanes.gates[0].clear()
    calls = [asyncio.create_task(placer.place(bet(n))) for n in range(MAX_BETS_PER_UPDATE)]
    await asyncio.sleep(0)  # All are handed in, and the update's task has not begun.
    for call in calls:
        call.cancel()
    await asyncio.sleep(0)
    lanes.gates[0].set()
    assert (await within(placer.place(bet(500)))).answer is Answer.ACCEPTED


async def test_a_stream_that_is_cancelled_leaves_nothing_running(lanes: FakeLanes, placer: Placer) -> None:
    lanes.shut.add(0)
    lanes.gates[1].clear()
    placed = asyncio.create_task(answers_of(placer, (bet(n, lane=n % 2) for n in range(100_000))))
    await soon("lanes wait", lambda: bool(placer.held_up) and lanes.in_flight[1] > 0)
    placed.cancel()
    with pytest.raises(asyncio.CancelledError):
        await placed
    assert lanes.in_flight[1] == 0
    assert not placer.held_up


async def test_what_sending_again_cannot_mend_ends_a_stream_after_the_answers_that_came(
    lanes: FakeLanes, placer: Placer
) -> None:
    lanes.fault = lambda lane: PermissionError("not yours") if lane == 1 else None
    lanes.gates[1].clear()
    answered: list[int] = []

    async def place() -> None:
        async for answer in placer.stream([bet(n, lane=n % 2) for n in range(200)]):
            answered.append(answer.position)
            if len(answered) == 100:
                lanes.gates[1].set()

    with pytest.raises(PermissionError, match="not yours"):
        await within(place())
    assert answered == list(range(0, 200, 2))


async def test_what_sending_again_cannot_mend_reaches_the_callers_of_that_update_only(
    lanes: FakeLanes, placer: Placer
) -> None:
    lanes.fault = lambda lane: PermissionError("not yours") if lane == 1 else None
    fine, refused = await within(
        asyncio.gather(placer.place(bet(0, lane=0)), placer.place(bet(0, lane=1)), return_exceptions=True)
    )
    assert isinstance(fine, BetOutcome)
    assert fine.answer is Answer.ACCEPTED
    assert isinstance(refused, PermissionError)


async def test_a_source_that_fails_is_heard_of_once_all_before_is_answered(placer: Placer) -> None:
    def broken() -> Generator[Any]:
        for n in range(150):
            yield bet(n)
        raise OSError("disk on fire")

    answered: list[int] = []

    async def place() -> None:
        async for answer in placer.stream(broken()):
            answered.append(answer.position)  # noqa: PERF401 - what was answered before the end is looked at

    with pytest.raises(OSError, match="disk on fire"):
        await within(place())
    assert answered == list(range(150))
