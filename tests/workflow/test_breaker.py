"""A lane whose settlements are stuck: it stops cutting batches, says so, tries one at intervals, and goes on by itself."""

import pytest

from settlement.breaker import FIRST_PROBE_AFTER, BreakerStatus
from settlement.errors import ProofRejected
from settlement.lanes import LaneState
from tests.workflow.casino import Casino, some_bets
from tests.workflow.test_continue_as_new import EVENTS, signal_until_continued
from workflows import visibility
from workflows.batcher import BatcherStatus
from workflows.settlement import Settlement

AFTER = 3


async def in_flight(casino: Casino, count: int) -> list[str]:
    async def found() -> list[str] | None:
        batches = list((await casino.status()).in_flight)
        return batches if len(batches) == count else None

    return await casino.soon(found)


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


def fail_next(casino: Casino, count: int) -> None:
    """Parks the next batches for a person."""
    casino.ledger.script.fail("sign", *[ProofRejected("nobody foresaw this")] * count)


async def mend(casino: Casino) -> None:
    for batch_id in (await casino.status()).in_flight:
        await casino.client.get_workflow_handle_for(Settlement.run, batch_id).signal(Settlement.retry)


async def opened_breaker(casino: Casino, **settings: int) -> None:
    """A lane with three stuck settlements, and three more bets in its queue."""
    await casino.open_lane(max_bets=1, breaker_after=AFTER, **settings)
    fail_next(casino, AFTER)
    await casino.place_many(some_bets(AFTER, "stuck"))
    await is_breaker(casino, BreakerStatus.OPEN)
    await casino.place_many(some_bets(3, "waits"))


async def test_it_opens_says_so_tries_one_batch_at_intervals_and_goes_on_once_one_closes(casino: Casino) -> None:
    await opened_breaker(casino)
    status = await casino.status()
    assert (status.queued, len(status.in_flight)) == (3, AFTER)
    assert "3 settlements in a row are stuck" in status.trouble
    assert "nobody foresaw this" in status.trouble
    await shows(casino, LaneState.BREAKER_OPEN)

    fail_next(casino, 1)
    await casino.pass_time(FIRST_PROBE_AFTER.total_seconds() + 1)
    assert len(await in_flight(casino, AFTER + 1)) == AFTER + 1
    assert (await is_breaker(casino, BreakerStatus.OPEN)).queued == 2
    await casino.pass_time(FIRST_PROBE_AFTER.total_seconds() + 1)
    assert len((await casino.status()).in_flight) == AFTER + 1
    fail_next(casino, 1)
    await casino.pass_time(FIRST_PROBE_AFTER.total_seconds())
    assert len(await in_flight(casino, AFTER + 2)) == AFTER + 2
    assert (await is_breaker(casino, BreakerStatus.OPEN)).queued == 1

    async def closed() -> bool:
        return (await casino.status()).breaker is BreakerStatus.CLOSED

    await casino.after_time(closed)
    await shows(casino, LaneState.OPEN)
    await mend(casino)
    status = await casino.idle()
    assert (status.breaker, status.trouble) == (BreakerStatus.CLOSED, "")
    await casino.assert_settled_once([*some_bets(AFTER, "stuck"), *some_bets(3, "waits")])


async def test_it_goes_on_as_soon_as_what_was_stuck_closes(casino: Casino) -> None:
    await opened_breaker(casino)
    await mend(casino)
    await is_breaker(casino, BreakerStatus.CLOSED)
    await casino.idle()
    await casino.assert_settled_once([*some_bets(AFTER, "stuck"), *some_bets(3, "waits")])


async def test_it_is_still_open_after_the_lane_has_continued_as_new(casino: Casino) -> None:
    await opened_breaker(casino, continue_as_new_after_events=EVENTS)
    await signal_until_continued(casino, "resume")
    assert (await casino.status()).breaker is BreakerStatus.OPEN
    await mend(casino)
    await casino.idle()


@pytest.mark.parametrize("nonsense", [None, "stuck", {"batch_id": 7}, {"batch_id": "settlement-0-other", "why": ""}])
async def test_a_word_of_no_batch_in_flight_opens_nothing(casino: Casino, nonsense: object) -> None:
    lane = await casino.open_lane(breaker_after=1)
    await lane.signal("settlement_stuck", nonsense)
    assert (await casino.status()).breaker is BreakerStatus.CLOSED


async def test_a_lane_with_fewer_slots_than_that_opens_with_all_of_them_stuck(casino: Casino) -> None:
    await casino.open_lane(max_bets=1, max_in_flight=2, breaker_after=AFTER)
    fail_next(casino, 2)
    await casino.place_many(some_bets(3))
    await is_breaker(casino, BreakerStatus.OPEN)
    await mend(casino)
    await casino.idle()
    await casino.assert_settled_once(some_bets(3))
