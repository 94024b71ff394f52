"""A lane lives for ever by continuing as new: nothing that it holds is lost or doubled on the way."""

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter

from settlement.batches import batch_id
from settlement.bets import Rejection, RejectionReason
from settlement.breaker import MAX_REASON_CHARS, Breaker
from settlement.intake import Answer
from settlement.lane_queue import KNOWN_DIGEST_BYTES, MAX_RECENT_BETS, LaneQueue
from settlement.lanes import BatcherState, Cut, QueuedBet, RecentBatch
from settlement.lifecycle import BatchStatus
from settlement.limits import (
    MAX_BATCHES_IN_FLIGHT,
    MAX_BET_ID_CHARS,
    MAX_BETS_PER_UPDATE,
    MAX_REJECTED_PAYLOAD_CHARS,
    MAX_STAKE_LAMPORTS,
)
from settlement.shapes import SHAPES
from tests.workflow.casino import LANE, PLAYERS, Casino, bet, some_bets
from workflows.batcher import (
    MAX_BETS_STARTING,
    MAX_CARRIED_OVERFLOW,
    MAX_CARRIED_REJECTIONS,
    MAX_REMEMBERED_ENDS,
    Batcher,
    BatcherInput,
    BatcherSettings,
)

TASK_EVENTS: Final = frozenset(
    {
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
    }
)
"""The latest of these tells whether a workflow task is due or under way."""

MINUTE: Final = timedelta(minutes=1)
NOON: Final = datetime(2026, 1, 31, 12, tzinfo=UTC)
NOON_AND_A_BIT: Final = datetime(2026, 1, 31, 12, 0, 0, 1, tzinfo=timezone(timedelta(hours=5, minutes=30)))
"""Takes the most room in JSON."""

EVENTS: Final = 40
"""A lane under test continues as new after so many."""

SHORT_WINDOW_SECONDS: Final = 0.5
"""The test server skips no time while a child runs whose parent has continued as new."""

PAYLOAD_LIMIT_BYTES: Final = 2_000_000
"""Temporal refuses a larger payload (limit.blobSize.error)."""


async def run_id(lane: WorkflowHandle[Any, None]) -> str:
    return (await lane.describe()).run_id or ""


async def signal_until_continued(casino: Casino, signal: str) -> None:
    """Makes history with a signal until the lane has continued as new."""
    lane = casino.batcher()
    first = await run_id(lane)

    async def continued() -> bool:
        events = [event.event_type for event in (await lane.fetch_history()).events]
        # A signal that came in with every task would put continuing off for ever.
        if (
            next(event for event in reversed(events) if event in TASK_EVENTS)
            == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
        ):
            await lane.signal(signal)
        return await run_id(lane) != first

    await casino.soon(continued)


async def carried_input(casino: Casino) -> BatcherInput:
    """What the lane's current run was started with."""
    lane = casino.batcher()
    history = await casino.client.get_workflow_handle(lane.id, run_id=await run_id(lane)).fetch_history()
    payloads = history.events[0].workflow_execution_started_event_attributes.input.payloads
    (request,) = await pydantic_data_converter.decode(payloads, [BatcherInput])
    return request


async def test_queue_known_ids_pause_and_counters_are_carried(casino: Casino) -> None:
    lane = await casino.open_lane(continue_as_new_after_events=EVENTS)
    bets = some_bets(5)
    await casino.place_many(bets)
    await casino.place_many([bets[0], bet("bet-1", stake=999)])
    await casino.rejections(1)
    await signal_until_continued(casino, "pause")

    status = await casino.status()
    assert (status.paused, status.queued) == (True, 5)
    assert (status.counters.accepted, status.counters.duplicates, status.counters.rejected) == (5, 1, 1)
    assert status.settings.continue_as_new_after_events == EVENTS
    (known, conflict) = await casino.place_many([bets[4], bet("bet-3", stake=999)])
    assert (known.answer, conflict.reason) == (Answer.DUPLICATE, RejectionReason.CONFLICT)

    await lane.signal(Batcher.resume)
    await casino.idle()
    await casino.assert_settled_once(bets)
    assert await casino.bet_ids() == [[b.bet_id for b in bets]]


async def test_a_batch_in_flight_is_carried_and_still_bounds_the_lane(casino: Casino) -> None:
    await casino.open_lane(continue_as_new_after_events=EVENTS, max_bets=1, max_in_flight=1)
    casino.prover.gate.clear()
    bets = some_bets(2)
    await casino.place_many(bets)
    await signal_until_continued(casino, "resume")

    status = await casino.status()
    assert (list(status.in_flight.values()), status.queued) == ([1], 1)
    await casino.being_proven()
    assert len(await casino.batches()) == 1
    casino.prover.gate.set()
    await casino.idle()
    await casino.assert_settled_once(bets)


async def test_a_batch_that_ends_just_when_its_lane_continues_is_asked_about_and_makes_room(
    casino: Casino, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nobody_has_continued(_lane: int, _run_id: str) -> bool:
        return True

    monkeypatch.setattr(casino, "is_run", nobody_has_continued)
    await casino.open_lane(continue_as_new_after_events=EVENTS, max_bets=1, max_in_flight=1)
    casino.prover.gate.clear()
    bets = some_bets(2)
    await casino.place_many(bets)
    await signal_until_continued(casino, "resume")
    casino.prover.gate.set()
    await casino.reaches(bets[:1], BatchStatus.CONFIRMED)
    # Neither run has heard of it.
    assert (await casino.status()).in_flight == {batch_id(LANE, bets[:1]): 1}
    await casino.idle()
    await casino.assert_settled_once(bets)


async def test_the_window_of_a_carried_bet_goes_on_from_when_it_came(casino: Casino) -> None:
    await casino.open_lane(continue_as_new_after_events=EVENTS, window_seconds=60.0)
    early = bet("early")
    await casino.place_many([early])
    await casino.pass_time(50)
    await signal_until_continued(casino, "resume")
    assert (await casino.status()).queued == 1
    await casino.pass_time(12)
    await casino.idle()
    await casino.assert_settled_once([early])
    assert await casino.env.get_current_time() < (await carried_input(casino)).state.queue[0].since + 2 * MINUTE


async def test_rejections_not_yet_written_are_carried_and_then_written(casino: Casino) -> None:
    lane = await casino.open_lane(continue_as_new_after_events=EVENTS)
    first = await run_id(lane)
    async with casino.locked_journal():
        for n in range(MAX_CARRIED_REJECTIONS):
            await casino.signal({"number": n})
    rejections = await casino.rejections(MAX_CARRIED_REJECTIONS)
    assert {rejection.payload for rejection in rejections} == {
        f'{{"number":{n}}}' for n in range(MAX_CARRIED_REJECTIONS)
    }
    assert await run_id(lane) != first
    assert (await carried_input(casino)).state.rejections
    assert (await casino.status()).counters.rejected == MAX_CARRIED_REJECTIONS


async def test_nothing_is_lost_or_doubled_while_a_loaded_lane_continues_as_new(real_time_casino: Casino) -> None:
    lane = await real_time_casino.open_lane(continue_as_new_after_events=EVENTS, window_seconds=SHORT_WINDOW_SECONDS)
    first = await run_id(lane)
    bets = some_bets(240, players=16)

    async def place(part: int) -> None:
        sent = bets[part::8]
        for start in range(0, len(sent), 5):
            answers = await real_time_casino.place_patiently(sent[start : start + 5])
            assert all(answer.answer is not Answer.REJECTED for answer in answers)

    await asyncio.gather(*(place(part) for part in range(8)))
    await real_time_casino.idle()
    assert await run_id(lane) != first
    status = await real_time_casino.status()
    assert status.counters.accepted == len(bets)
    await real_time_casino.assert_settled_once(bets)


async def test_a_lane_that_replays_its_whole_history_every_few_steps_settles_the_same(
    forgetful_real_time_casino: Casino,
) -> None:
    await forgetful_real_time_casino.open_lane(continue_as_new_after_events=EVENTS, window_seconds=SHORT_WINDOW_SECONDS)
    bets = some_bets(50)
    for start in range(0, 50, 10):
        await forgetful_real_time_casino.place_many(bets[start : start + 10])
        await forgetful_real_time_casino.signal("nonsense")
    await forgetful_real_time_casino.idle()
    await forgetful_real_time_casino.rejections(5)
    await forgetful_real_time_casino.assert_settled_once(bets)


def test_a_lane_that_holds_all_that_it_may_fits_one_payload() -> None:
    long_id = "x" * MAX_BET_ID_CHARS
    greatest = bet(long_id, player=PLAYERS[0], stake=MAX_STAKE_LAMPORTS)
    greatest = greatest.model_copy(update={"placed_at": NOON_AND_A_BIT})
    batch = f"settlement-65535-{'f' * 32}"
    # A control character takes the most room in JSON.
    text = "\x01" * MAX_REJECTED_PAYLOAD_CHARS
    worst = Rejection(
        rejection_id="f" * 36,
        lane=65_535,
        bet_id=long_id,
        reason=RejectionReason.STAKE_OUT_OF_RANGE,
        detail=text,
        payload=text,
        at=NOON,
    )
    queued = QueuedBet(bet=greatest, since=NOON_AND_A_BIT, tracked=False)
    max_bets = SHAPES[-1].bets
    queue = LaneQueue(BatcherState(), max_bets=max_bets, max_players=1)
    # Batches of one bet each, and each bet of an id of its own, take the most room.
    state = BatcherState(
        queue=[queued] * (queue.room + MAX_BETS_PER_UPDATE),
        overflow=[queued] * MAX_CARRIED_OVERFLOW,
        recent=[
            RecentBatch(batch_id=batch, digests={f"{n:0{MAX_BET_ID_CHARS}}": "f" * 2 * KNOWN_DIGEST_BYTES})
            for n in range(MAX_RECENT_BETS)
        ],
        in_flight={f"{batch}{n}": 64 for n in range(MAX_BATCHES_IN_FLIGHT)},
        cuts=[Cut(bets=[queued] * max_bets, after=(batch,) * MAX_BATCHES_IN_FLIGHT)] * (MAX_BETS_STARTING // max_bets),
        breaker=Breaker(stuck={f"{batch}{n}": "\x01" * MAX_REASON_CHARS for n in range(MAX_BATCHES_IN_FLIGHT)}),
        closed=[batch] * MAX_REMEMBERED_ENDS,
        rejections=[worst] * MAX_CARRIED_REJECTIONS,
    )
    carried = BatcherInput(lane=LANE, settings=BatcherSettings(), state=state)
    assert len(carried.model_dump_json()) < PAYLOAD_LIMIT_BYTES
