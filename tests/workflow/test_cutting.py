"""When a lane cuts a batch: by age, bets, players and money; never out of order."""

from settlement.lifecycle import BatchStatus
from tests.workflow.casino import Casino, bet, some_bets


async def test_after_an_hour_of_silence_one_bet_settles_when_its_window_ends_and_not_before(casino: Casino) -> None:
    await casino.open_lane(window_seconds=60.0)
    await casino.pass_time(3_600)

    lonely = bet("lonely")
    await casino.place_many([lonely])
    await casino.pass_time(55)
    assert (await casino.status()).queued == 1
    assert await casino.batches() == []

    await casino.pass_time(10)
    await casino.idle()
    assert [batch.status for batch in await casino.batches()] == [BatchStatus.CONFIRMED]
    await casino.assert_settled_once([lonely])


async def test_a_batch_is_cut_at_exactly_max_bets_without_waiting(casino: Casino) -> None:
    await casino.open_lane(max_bets=4)
    bets = some_bets(9)
    await casino.place_many(bets)

    async def two_cut() -> bool:
        return len(await casino.batches()) == 2

    await casino.soon(two_cut)
    assert (await casino.status()).queued == 1
    assert await casino.bet_ids() == [[b.bet_id for b in bets[:4]], [b.bet_id for b in bets[4:8]]]
