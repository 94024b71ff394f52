"""A lane whose settlements are stuck: it stops cutting batches, says so, tries one at intervals, and goes on by itself."""

import pytest

from settlement.breaker import FIRST_PROBE_AFTER, LONGEST_PROBE_AFTER, BreakerStatus
from settlement.lanes import LaneState
from tests.workflow.casino import Casino, some_bets
from tests.workflow.test_continue_as_new import EVENTS, run_id, signal_until_continued
from workflows import visibility
from workflows.batcher import BatcherStatus
from workflows.settlement import StuckBatch

AFTER = 3


async def in_flight(casino: Casino, count: int) -> list[str]:
    async def found() -> list[str] | None:
        batches = list((await casino.status()).in_flight)
        return batches if len(batches) == count else None

    return await casino.soon(found)


async def tell_stuck(casino: Casino, *batch_ids: str) -> None:
    for batch_id in batch_ids:
        await casino.batcher().signal("settlement_stuck", StuckBatch(batch_id=batch_id, why="no node answers"))


async def is_breaker(casino: Casino, status: BreakerStatus) -> BatcherStatus:
    async def found() -> BatcherStatus | None:
        answer = await casino.status()
        return answer if answer.breaker is status else None

    return await casino.soon(found)


async def shows(casino: Casino, state: LaneState) -> None:
    async def shown() -> bool:
        attributes = (await casino.batcher().describe()).typed_search_attributes
        return attributes.get(visibility.LANE_STATE) == state.value

    await casino.soon(shown)


async def opened_breaker(casino: Casino, **settings: int) -> None:
    """A lane with three stuck settlements, and three more bets in its queue."""
    await casino.open_lane(max_bets=1, breaker_after=AFTER, **settings)
    casino.prover.gate.clear()
    await casino.place_many(some_bets(AFTER, "stuck"))
    batches = await in_flight(casino, AFTER)
    await tell_stuck(casino, *batches[:-1], batches[0])
    assert (await casino.status()).breaker is BreakerStatus.CLOSED
    await tell_stuck(casino, batches[-1])
    await is_breaker(casino, BreakerStatus.OPEN)
    await casino.place_many(some_bets(3, "waits"))


async def test_it_opens_says_so_tries_one_batch_at_intervals_and_goes_on_once_one_closes(casino: Casino) -> None:
    await opened_breaker(casino)
    status = await casino.status()
    assert (status.queued, len(status.in_flight)) == (3, AFTER)
    assert "3 settlements in a row are stuck" in status.trouble
    assert "no node answers" in status.trouble
    await shows(casino, LaneState.BREAKER_OPEN)

    await casino.pass_time(FIRST_PROBE_AFTER.total_seconds() + 1)
    status = await is_breaker(casino, BreakerStatus.PROBING)
    assert (status.queued, len(status.in_flight)) == (2, AFTER + 1)
    await tell_stuck(casino, list(status.in_flight)[-1])
    await is_breaker(casino, BreakerStatus.OPEN)
    await casino.pass_time(FIRST_PROBE_AFTER.total_seconds() + 1)
    assert (await casino.status()).breaker is BreakerStatus.OPEN
    # A clock that jumps tries once, not once for each interval.
    await casino.pass_time(10 * LONGEST_PROBE_AFTER.total_seconds())
    status = await is_breaker(casino, BreakerStatus.PROBING)
    assert (status.queued, len(status.in_flight)) == (1, AFTER + 2)

    casino.prover.gate.set()
    status = await casino.idle()
    assert (status.breaker, status.trouble) == (BreakerStatus.CLOSED, "")
    await shows(casino, LaneState.OPEN)
    await casino.assert_settled_once([*some_bets(AFTER, "stuck"), *some_bets(3, "waits")])


async def test_it_goes_on_as_soon_as_what_was_stuck_closes(casino: Casino) -> None:
    await opened_breaker(casino)
    casino.prover.gate.set()
    await is_breaker(casino, BreakerStatus.CLOSED)
    await casino.idle()
    await casino.assert_settled_once([*some_bets(AFTER, "stuck"), *some_bets(3, "waits")])


async def test_it_is_still_open_after_the_lane_has_continued_as_new(casino: Casino) -> None:
    await opened_breaker(casino, continue_as_new_after_events=EVENTS)
    first = await run_id(casino.batcher())
    await signal_until_continued(casino, "resume")
    assert await run_id(casino.batcher()) != first
    assert (await casino.status()).breaker is BreakerStatus.OPEN
    casino.prover.gate.set()
    await casino.idle()


@pytest.mark.parametrize("nonsense", [None, "stuck", {"batch_id": 7}, {"batch_id": "settlement-0-other", "why": ""}])
async def test_a_word_of_no_batch_in_flight_opens_nothing(casino: Casino, nonsense: object) -> None:
    lane = await casino.open_lane(breaker_after=1)
    await lane.signal("settlement_stuck", nonsense)
    assert (await casino.status()).breaker is BreakerStatus.CLOSED


async def test_a_lane_with_fewer_slots_than_that_opens_with_all_of_them_stuck(casino: Casino) -> None:
    await casino.open_lane(max_bets=1, max_in_flight=2, breaker_after=AFTER)
    casino.prover.gate.clear()
    await casino.place_many(some_bets(3))
    await tell_stuck(casino, *await in_flight(casino, 2))
    await is_breaker(casino, BreakerStatus.OPEN)
    casino.prover.gate.set()
    await casino.idle()
