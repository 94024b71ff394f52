"""When a lane cuts a batch: by age, bets, players and money; never out of order, and never more at once than it may."""

from settlement.lifecycle import BatchStatus
from settlement.limits import MAX_STAKE_LAMPORTS
from tests.workflow.casino import PLAYERS, Casino, bet, some_bets


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


async def test_the_window_counts_from_the_oldest_queued_bet(casino: Casino) -> None:
    await casino.open_lane(window_seconds=60.0)
    first, second = bet("first"), bet("second")
    await casino.place_many([first])
    await casino.pass_time(40)
    await casino.place_many([second])
    await casino.pass_time(25)

    await casino.idle()
    assert await casino.bet_ids() == [["first", "second"]]


async def test_each_window_after_the_first_is_kept_too(casino: Casino) -> None:
    await casino.open_lane(window_seconds=60.0)
    for n in range(3):
        await casino.place_many([bet(f"bet-{n}")])
        await casino.pass_time(65)
    await casino.idle()
    assert await casino.bet_ids() == [["bet-0"], ["bet-1"], ["bet-2"]]


async def test_a_batch_is_cut_at_exactly_max_bets_without_waiting(casino: Casino) -> None:
    await casino.open_lane(max_bets=4)
    bets = some_bets(9)
    await casino.place_many(bets)

    async def two_cut() -> bool:
        return len(await casino.batches()) == 2

    await casino.soon(two_cut)
    assert (await casino.status()).queued == 1
    assert await casino.bet_ids() == [[b.bet_id for b in bets[:4]], [b.bet_id for b in bets[4:8]]]


async def test_one_bet_less_than_max_bets_waits_for_the_window(casino: Casino) -> None:
    await casino.open_lane(max_bets=4)
    await casino.place_many(some_bets(3))
    await casino.pass_time(55)
    assert (await casino.status()).queued == 3


async def test_the_seventeenth_player_starts_the_next_batch(casino: Casino) -> None:
    await casino.open_lane(max_bets=64, max_players=16)
    bets = [bet(f"bet-{n}", player=n) for n in range(16)] + [bet("again", player=3), bet("bet-16", player=16)]
    await casino.place_many(bets)

    async def one_cut() -> bool:
        return len(await casino.batches()) == 1

    await casino.soon(one_cut)
    assert await casino.bet_ids() == [[b.bet_id for b in bets[:17]]]
    assert (await casino.status()).queued == 1
    await casino.idle()
    await casino.assert_settled_once(bets)


async def test_a_batch_is_cut_before_its_stakes_sum_to_more_than_a_signed_64_bit_amount(casino: Casino) -> None:
    await casino.open_lane()
    for player in PLAYERS[:2]:
        casino.ledger.fund_vault(0, player, MAX_STAKE_LAMPORTS)
    bets = [bet("greatest", player=0, stake=MAX_STAKE_LAMPORTS), bet("least", player=1, stake=1)]
    await casino.place_many(bets)
    await casino.idle()
    assert await casino.bet_ids() == [["greatest"], ["least"]]
    await casino.assert_settled_once(bets)


async def test_bets_settle_in_the_order_in_which_they_came(casino: Casino) -> None:
    await casino.open_lane(max_bets=4)
    bets = some_bets(30)
    for start in range(0, 30, 7):
        await casino.place_many(bets[start : start + 7])
    await casino.idle()
    settled = [bet_id for batch in await casino.bet_ids() for bet_id in batch]
    assert settled == [b.bet_id for b in bets]
    await casino.assert_settled_once(bets)


async def test_no_more_batches_are_in_flight_than_max_in_flight_allows(casino: Casino) -> None:
    await casino.open_lane(max_bets=2, max_in_flight=2, window_seconds=1.0)
    casino.prover.gate.clear()
    bets = some_bets(10)
    await casino.place_many(bets)

    async def two_proving() -> bool:
        return len(casino.prover.waiting) == 2

    await casino.soon(two_proving)
    status = await casino.status()
    assert (len(status.in_flight), status.queued) == (2, 6)
    assert len(await casino.batches()) == 2

    casino.prover.gate.set()
    await casino.idle()
    await casino.assert_settled_once(bets)
