"""A lane under a load that it cannot settle at once: nothing is lost, doubled, rejected or out of order, and no workflow task fails."""

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.client import WorkflowHistory

from settlement.bets import Bet, RejectionReason, lane_of
from settlement.errors import LaneSaturated
from settlement.intake import Answer
from settlement.lane_queue import MAX_BETS_PER_PARKING, MIN_BETS_PER_PARKING, MIN_QUEUED_BETS, QUEUED_BATCHES
from settlement.limits import MAX_BETS_PER_UPDATE
from tests.workflow.casino import LANE, PLAYERS, Casino, bet, open_casino, some_bets
from workflows.batcher import Batcher

BATCH: Final = MIN_QUEUED_BETS // QUEUED_BATCHES
FLOOD: Final = MIN_QUEUED_BETS + MIN_BETS_PER_PARKING + 150
"""Fills the queue and a page of the journal's, and leaves some over."""

EVENTS: Final = 300
FEW_EVENTS: Final = 60
SETTINGS: Final[dict[str, Any]] = {"max_bets": BATCH, "window_seconds": 0.5}
DESIGNED_FAILURE: Final = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND
"""A signal has come in while the run continued as new: Temporal gives it the task once more, and holds signals back meanwhile."""


async def runs(casino: Casino, first_run: str, lane: int = LANE) -> list[WorkflowHistory]:
    """The histories of a run and of all that have continued it."""
    histories: list[WorkflowHistory] = []
    run_id = first_run
    while run_id:
        handle = casino.client.get_workflow_handle(casino.batcher(lane).id, run_id=run_id)
        histories.append(await handle.fetch_history())
        closing = histories[-1].events[-1]
        run_id = closing.workflow_execution_continued_as_new_event_attributes.new_execution_run_id
    return histories


def failed_tasks(histories: Sequence[WorkflowHistory]) -> list[int]:
    """Why workflow tasks have failed or timed out, but for what Temporal does by design."""
    failed = [
        event.workflow_task_failed_event_attributes.cause
        for history in histories
        for event in history.events
        if event.event_type in (EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED, EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT)
    ]
    return [cause for cause in failed if cause != DESIGNED_FAILURE]


async def send(casino: Casino, bets: Sequence[Bet], lane: int = LANE) -> None:
    """Signals bets, one after the other."""
    for one in bets:
        await casino.signal(one, lane=lane)


async def flooded(casino: Casino, bets: Sequence[Bet], **settings: Any) -> str:
    """A paused lane that has been sent all of `bets` by signal, and has parked what it can. Answers its first run."""
    lane = await casino.open_lane(**{**SETTINGS, **settings})
    first_run = (await lane.describe()).run_id or ""
    await lane.signal(Batcher.pause)
    await send(casino, bets)
    await casino.soon(partial(is_parked, casino))
    return first_run


async def is_parked(casino: Casino) -> bool:
    return len((await casino.journal.parked(LANE, 0, MAX_BETS_PER_PARKING)).bets) >= MIN_BETS_PER_PARKING


async def assert_settled_in_order(casino: Casino, bets: Sequence[Bet]) -> None:
    status = await casino.idle()
    assert (status.counters.rejected, status.trouble) == (0, "")
    assert [bet_id for ids in await casino.bet_ids() for bet_id in ids] == [one.bet_id for one in bets]
    await casino.assert_settled_once(bets)
    # What was taken up is removed beside the settling.
    page = await casino.journal.parked(LANE, 0, 1)
    assert (page.bets, page.left) == ((), 0)


async def test_signals_far_above_the_bound_are_parked_and_settled_once_in_order_over_several_runs(
    real_time_casino: Casino,
) -> None:
    bets = some_bets(FLOOD)
    first_run = await flooded(real_time_casino, bets, continue_as_new_after_events=EVENTS)
    status = await real_time_casino.status()
    assert (status.queued, status.queued + status.parked) == (MIN_QUEUED_BETS, FLOOD)
    await real_time_casino.batcher().signal(Batcher.resume)
    await assert_settled_in_order(real_time_casino, bets)
    histories = await runs(real_time_casino, first_run)
    assert len(histories) > 2
    assert failed_tasks(histories) == []


async def test_updates_are_refused_while_bets_wait_behind_the_queue_and_duplicates_of_parked_ones_are_settled_once(
    casino: Casino,
) -> None:
    bets = some_bets(FLOOD)
    await flooded(casino, bets)
    parked, other = bets[MIN_QUEUED_BETS], bet(bets[MIN_QUEUED_BETS + 1].bet_id, stake=9)
    await send(casino, [parked, other])
    late = bet("late")
    with pytest.raises(LaneSaturated):
        await casino.place_many([late])
    placing = asyncio.create_task(casino.place_patiently([late]))
    await casino.batcher().signal(Batcher.resume)
    (answer,) = await placing
    assert answer.answer is Answer.ACCEPTED
    status = await casino.idle()
    assert (status.counters.accepted, status.counters.duplicates) == (FLOOD + 1, 1)
    (rejection,) = await casino.rejections(1)
    assert (rejection.bet_id, rejection.reason) == (other.bet_id, RejectionReason.CONFLICT)
    assert [bet_id for ids in await casino.bet_ids() for bet_id in ids] == [one.bet_id for one in [*bets, late]]
    await casino.assert_settled_once([*bets, late])


async def test_a_batcher_that_is_terminated_while_its_worker_is_dead_and_bets_are_parked_loses_none(
    journal_path: Path,
) -> None:
    bets, later = some_bets(FLOOD), some_bets(20, "later")
    async with open_casino(journal_path, skips_time=False, at_work=False) as casino:
        async with casino.at_work():
            await flooded(casino, bets)
        await send(casino, later[:10])
        await casino.batcher().terminate("by a person, it may be")
        await casino.start_lane(**SETTINGS)
        await send(casino, later[10:])
        async with casino.at_work():
            await casino.batcher().signal(Batcher.resume)
            status = await casino.idle()
            assert (status.counters.rejected, status.trouble) == (0, "")
            await casino.assert_settled_once([*bets, *later])


async def test_a_flood_while_the_journal_cannot_be_written_is_kept_and_what_is_wrong_is_shown(casino: Casino) -> None:
    bets = some_bets(FLOOD)
    lane = await casino.open_lane(**SETTINGS)
    await lane.signal(Batcher.pause)

    async def trouble() -> str:
        return (await casino.status()).trouble

    with casino.broken_journal():
        await send(casino, bets)
        assert "JournalMisconfigured" in await casino.soon(trouble)
        assert (await casino.status()).parked == FLOOD - MIN_QUEUED_BETS
        assert not await is_parked(casino)
    await lane.signal(Batcher.resume)
    await assert_settled_in_order(casino, bets)


async def test_parked_bets_that_the_journal_has_lost_are_told_of(casino: Casino) -> None:
    bets = some_bets(FLOOD)
    await flooded(casino, bets)
    await casino.journal.unpark(LANE, MAX_BETS_PER_PARKING)
    await casino.batcher().signal(Batcher.resume)
    assert "the journal has lost" in (await casino.idle()).trouble
    kept = [*bets[:MIN_QUEUED_BETS], *bets[MIN_QUEUED_BETS + MIN_BETS_PER_PARKING :]]
    settled = {bet_id for ids in await casino.bet_ids() for bet_id in ids}
    assert settled <= {one.bet_id for one in kept}
    assert {one.bet_id for one in bets[:MIN_QUEUED_BETS]} <= settled


async def test_updates_far_above_the_bound_are_settled_once_over_several_runs(real_time_casino: Casino) -> None:
    lane = await real_time_casino.open_lane(**SETTINGS, continue_as_new_after_events=FEW_EVENTS)
    first_run = (await lane.describe()).run_id or ""
    bets = some_bets(2_000)
    parts = [bets[start : start + MAX_BETS_PER_UPDATE] for start in range(0, len(bets), MAX_BETS_PER_UPDATE)]

    async def place(sender: int) -> None:
        for part in parts[sender::4]:
            answers = await real_time_casino.place_patiently(part)
            assert all(answer.answer is not Answer.REJECTED for answer in answers)

    await asyncio.gather(*map(place, range(4)))
    await real_time_casino.idle()
    await real_time_casino.assert_settled_once(bets)
    histories = await runs(real_time_casino, first_run)
    assert len(histories) > 1
    assert failed_tasks(histories) == []


async def test_a_flooded_lane_holds_no_other_up(casino: Casino) -> None:
    of_lane = [[player for player in PLAYERS if lane_of(player, 2) == lane] for lane in range(2)]
    few = [bet(f"few-{n}", player=of_lane[1][n]) for n in range(5)]
    many = [bet(f"many-{n}", player=of_lane[0][n % 8], stake=100 + n) for n in range(FLOOD)]
    await casino.open_lane(1, lanes=2, **SETTINGS)
    await flooded(casino, many, lanes=2)
    await casino.place_many(few, lane=1)
    await casino.idle(1)
    await casino.assert_settled_once(few, lane=1)
    await casino.batcher().signal(Batcher.resume)
    await assert_settled_in_order(casino, many)


async def test_batches_of_every_number_of_players_are_cut_and_settled(casino: Casino) -> None:
    most = 16
    await casino.open_lane(max_bets=BATCH, max_players=most, window_seconds=1.0)
    bets: list[Bet] = []
    for players in range(1, most + 1):
        batch = [bet(f"{players}-{n}", player=n, stake=100 + n, won=n % 2 == 0) for n in range(players)]
        await casino.place_many(batch)
        await casino.pass_time(2)
        bets += batch
    await casino.idle()
    assert [len(ids) for ids in await casino.bet_ids()] == list(range(1, most + 1))
    await casino.assert_settled_once(bets)


@pytest.mark.slow
async def test_ten_thousand_signals_that_no_worker_heard_are_heard_at_once(journal_path: Path) -> None:
    bets = some_bets(9_000)
    async with open_casino(journal_path, skips_time=False, at_work=False) as casino:
        await casino.start_lane(**SETTINGS)
        first_run = (await casino.batcher().describe()).run_id or ""
        await asyncio.gather(*(send(casino, bets[part::20]) for part in range(20)))
        async with casino.at_work():
            status = await casino.idle()
            assert (status.counters.accepted, status.counters.rejected) == (len(bets), 0)
            await casino.assert_settled_once(bets)
            assert failed_tasks(await runs(casino, first_run)) == []
