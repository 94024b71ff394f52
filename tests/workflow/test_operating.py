"""What an operator does to a lane while it runs: pausing, resuming, new settings."""

import pytest

from operations.lanes import lane_status
from settlement.errors import LaneSilent
from settlement.shapes import SHAPES
from tests.workflow.casino import LANE, SETTINGS, Casino, bet, some_bets
from workflows.batcher import Batcher


async def test_a_paused_lane_takes_bets_in_and_settles_none_until_it_is_resumed(casino: Casino) -> None:
    lane = await casino.open_lane(max_bets=4)
    await lane.signal(Batcher.pause)
    bets = some_bets(6)
    await casino.place_many(bets)
    await casino.pass_time(600)
    status = await casino.status()
    assert (status.paused, status.queued) == (True, 6)
    assert await casino.batches() == []

    await lane.signal(Batcher.resume)
    assert not (await casino.idle()).paused
    await casino.assert_settled_once(bets)


async def test_a_batch_in_flight_is_not_held_back_by_a_pause(casino: Casino) -> None:
    lane = await casino.open_lane(max_bets=2)
    casino.prover.gate.clear()
    bets = some_bets(2)
    await casino.place_many(bets)
    await lane.signal(Batcher.pause)
    casino.prover.gate.set()
    await casino.idle()
    await casino.assert_settled_once(bets)


async def test_new_settings_count_for_bets_that_are_queued_already(casino: Casino) -> None:
    await casino.open_lane(max_bets=8)
    await casino.place_many(some_bets(5))
    await casino.open_lane(max_bets=4)

    async def one_cut() -> bool:
        return len(await casino.batches()) == 1

    await casino.soon(one_cut)
    assert (await casino.status()).settings == SETTINGS.model_copy(update={"max_bets": 4})
    assert (await casino.status()).queued == 1


async def test_a_shorter_window_counts_for_a_bet_that_waits_already(casino: Casino) -> None:
    await casino.open_lane(window_seconds=3_600.0)
    await casino.place_many([bet("patient")])
    await casino.open_lane(window_seconds=60.0)
    await casino.pass_time(65)
    await casino.idle()
    assert await casino.bet_ids() == [["patient"]]


async def test_starting_a_running_lane_again_changes_nothing_but_its_settings(casino: Casino) -> None:
    lane = await casino.open_lane()
    run_id = (await lane.describe()).run_id
    await casino.place_many(some_bets(3))
    await casino.open_lane(max_players=5)
    assert (await lane.describe()).run_id == run_id
    status = await casino.status()
    assert (status.queued, status.counters.accepted, status.settings.max_players) == (3, 3, 5)


async def test_settings_that_no_batch_could_be_cut_by_are_not_taken(casino: Casino) -> None:
    lane = await casino.open_lane()
    for nonsense in (
        {"max_bets": 0},
        {"max_bets": SHAPES[-1].bets + 1},
        {"max_players": SHAPES[-1].players + 1},
        {"max_in_flight": 0},
        {"lanes": 0},
        "none",
    ):
        await lane.signal("configure", nonsense)
    assert (await casino.status()).settings == SETTINGS
    bets = some_bets(3)
    await casino.place_many(bets)
    await casino.idle()
    await casino.assert_settled_once(bets)


async def test_a_lane_whose_batcher_was_terminated_is_said_not_to_run(casino: Casino) -> None:
    lane = await casino.open_lane()
    assert (await lane_status(casino.intake, LANE)).opened
    await lane.terminate()
    with pytest.raises(LaneSilent, match="batcher-0 was terminated and does not run"):
        await lane_status(casino.intake, LANE)
