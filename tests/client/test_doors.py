"""Lanes of a real Batcher as a client meets them: started on first use and after any loss, full, and with answers for every bet."""

import asyncio
import random
from collections import Counter
from contextlib import aclosing
from typing import Any, Final

import base58
import pytest

from client.intake import TemporalIntake
from client.placing import Placer
from settlement.bets import RejectionReason, lane_of
from settlement.errors import LaneSaturated
from settlement.intake import Answer
from tests.workflow.casino import SETTINGS, Casino
from workflows import names
from workflows.batcher import Batcher, BatcherInput

LANES: Final = 16
"""Of which each test uses its own."""

TEMPORALS_LIMIT: Final = 10
"""Of updates in flight for one workflow."""

NOBODYS_QUEUE: Final = "nobody polls this queue"
SOON_SECONDS: Final = 5.0
"""Far below what the SDK waits before it tells of a server without room."""


@pytest.fixture
def intake(casino: Casino) -> TemporalIntake:
    settings = SETTINGS.model_copy(update={"lanes": LANES, "max_bets": 64, "window_seconds": 0.2})
    return TemporalIntake(casino.client, settings)


def bets_of(lane: int, count: int, name: str = "bet") -> list[Any]:
    """Bets as JSON, of players of that lane."""
    dice, players = random.Random(lane), list[str]()
    while len(players) < 8:
        key = base58.b58encode(dice.randbytes(32)).decode()
        if lane_of(key, LANES) == lane:
            players.append(key)
    return [
        {
            "bet_id": f"{name}-{lane}-{number}",
            "player": players[number % len(players)],
            "stake": 1 + number,
            "guess": "heads",
            "outcome": "heads" if number % 2 else "tails",
        }
        for number in range(count)
    ]


async def accepted(casino: Casino, lane: int, count: int) -> None:
    async def are_accepted() -> bool:
        return (await casino.status(lane)).counters.accepted == count

    await casino.soon(are_accepted)


async def test_a_lane_is_started_by_the_first_update_to_it_and_after_its_loss(
    casino: Casino, intake: TemporalIntake
) -> None:
    first, second = bets_of(0, 2)
    for sent in (first, second):
        assert [outcome.answer for outcome in await intake.place_many(0, [sent])] == [Answer.ACCEPTED]
        await casino.batcher(0).terminate()
    (again,) = await intake.place_many(0, [first])
    assert again.answer is Answer.DUPLICATE, "the lane has taken over what the lost one held"


async def test_a_lane_is_started_by_the_first_signal_to_it_and_after_its_loss(
    casino: Casino, intake: TemporalIntake
) -> None:
    for number, sent in enumerate(bets_of(1, 2), start=1):
        await intake.signal(sent)
        await accepted(casino, 1, number)
        await casino.batcher(1).terminate()


async def test_what_names_no_player_goes_to_a_lane_that_records_it(intake: TemporalIntake) -> None:
    for sent in (7, "text", {"player": 1}, {"player": "l" * 44}, {"player": "x" * 5_000}):
        assert intake.lane_for(sent) == 0
    (bet,) = bets_of(5, 1)
    assert intake.lane_for({**bet, "stake": -1}) == 5


async def test_a_lane_with_too_many_updates_in_flight_says_so_at_once(casino: Casino, intake: TemporalIntake) -> None:
    lane = 2
    nobodys = await casino.client.start_workflow(
        Batcher.run, BatcherInput(lane=lane, settings=SETTINGS), id=names.batcher_id(lane), task_queue=NOBODYS_QUEUE
    )
    bets = bets_of(lane, TEMPORALS_LIMIT + 1)
    sending = [asyncio.create_task(intake.place_many(lane, [bet])) for bet in bets]
    try:
        done, _ = await asyncio.wait(sending, timeout=SOON_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        (refused,) = done
        assert isinstance(refused.exception(), LaneSaturated)
    finally:
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
        await nobodys.terminate()


async def test_a_stream_beyond_what_lanes_hold_is_answered_bet_by_bet(casino: Casino, intake: TemporalIntake) -> None:
    one, other = bets_of(3, 400, "streamed"), bets_of(4, 400, "streamed")
    for lane, in_lane in ((3, one), (4, other)):
        casino.ledger.fund_house(lane)
        for player in {bet["player"] for bet in in_lane}:
            casino.ledger.fund_vault(lane, player)
    conflict = {**one[0], "stake": 999_999}
    bets = [bet for pair in zip(one, other, strict=True) for bet in pair]
    bets += [one[0], conflict, {**other[0], "bet_id": "odd", "stake": 0}, "no object"]
    async with aclosing(Placer(intake).stream(bets)) as placed:
        answers = {answer.position: answer async for answer in placed}
    assert sorted(answers) == list(range(len(bets)))
    assert [answers[at].answer for at in range(800)] == [Answer.ACCEPTED] * 800
    duplicate, *rejected = (answers[at] for at in range(800, 804))
    assert duplicate.answer is Answer.DUPLICATE
    assert [answer.reason for answer in rejected] == [
        RejectionReason.CONFLICT,
        RejectionReason.STAKE_OUT_OF_RANGE,
        RejectionReason.MALFORMED,
    ]
    assert Counter(answer.bet_id for answer in answers.values())["odd"] == 1


async def test_a_run_of_a_lane_is_the_current_one_until_it_has_ended(casino: Casino, intake: TemporalIntake) -> None:
    lane = 6
    await intake.ensure_batcher(lane)
    run_id = (await casino.batcher(lane).describe()).run_id
    assert run_id
    assert await intake.is_run(lane, run_id)
    assert not await intake.is_run(lane, "another run")
    await casino.batcher(lane).terminate()
    assert not await intake.is_run(lane, run_id)
    assert not await intake.is_run(LANES, run_id)
