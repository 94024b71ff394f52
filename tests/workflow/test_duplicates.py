"""The same bet is settled once, however often and through whichever door it comes; another bet under its id is a conflict."""

import pytest

from settlement.batches import BetStatus
from settlement.bets import Bet, RejectionReason
from settlement.intake import Answer
from settlement.lifecycle import BatchStatus
from tests.workflow.casino import LANE, Casino, as_json, bet, some_bets


async def send_through_every_door(casino: Casino, again: Bet) -> None:
    """Sends a bet that the lane knows."""
    before = (await casino.status()).counters.duplicates
    (answer,) = await casino.place_many([again])
    assert answer.answer is Answer.DUPLICATE
    await casino.signal(again)
    await casino.intake.track(again)

    async def all_counted() -> bool:
        return (await casino.status()).counters.duplicates == before + 3

    await casino.soon(all_counted)


async def test_a_duplicate_in_the_queue_is_dropped_at_every_door(casino: Casino) -> None:
    await casino.open_lane()
    once = bet("once")
    await casino.place_many([once])
    await send_through_every_door(casino, once)
    assert (await casino.status()).queued == 1
    await casino.idle()
    await casino.assert_settled_once([once])


async def test_a_duplicate_of_a_bet_in_flight_is_answered_with_its_batch(casino: Casino) -> None:
    await casino.open_lane(max_bets=1)
    casino.prover.gate.clear()
    once = bet("once")
    await casino.place_many([once])

    async def in_flight() -> list[str]:
        return list((await casino.status()).in_flight)

    (batch,) = await casino.soon(in_flight)
    assert [answer.batch_id for answer in await casino.place_many([once])] == [batch]
    await send_through_every_door(casino, once)
    casino.prover.gate.set()
    await casino.idle()
    await casino.assert_settled_once([once])


async def test_a_duplicate_of_a_settled_bet_is_dropped_at_every_door(casino: Casino) -> None:
    await casino.open_lane(max_bets=1)
    once = bet("once")
    await casino.place_many([once])
    await casino.idle()
    await send_through_every_door(casino, once)
    await casino.idle()
    await casino.assert_settled_once([once])


async def test_a_duplicate_within_one_update_is_dropped(casino: Casino) -> None:
    await casino.open_lane()
    bets = some_bets(3)
    answers = await casino.place_many([*bets, *bets])
    assert [answer.answer for answer in answers] == [Answer.ACCEPTED] * 3 + [Answer.DUPLICATE] * 3
    await casino.idle()
    await casino.assert_settled_once(bets)


async def test_a_resend_with_a_new_timestamp_is_the_same_bet(casino: Casino) -> None:
    await casino.open_lane()
    once = bet("once")
    stamped = {**as_json([once])[0], "placed_at": "2026-01-31T12:00:00Z"}
    answers = await casino.intake.place_many(LANE, [*as_json([once]), stamped])
    assert [answer.answer for answer in answers] == [Answer.ACCEPTED, Answer.DUPLICATE]


@pytest.mark.parametrize("other", [bet("same-id", stake=101), bet("same-id", won=True), bet("same-id", player=1)])
async def test_other_content_under_a_known_id_is_a_conflict_and_the_original_settles(
    casino: Casino, other: Bet
) -> None:
    await casino.open_lane()
    original = bet("same-id")
    await casino.place_many([original])
    (answer,) = await casino.place_many([other])
    assert (answer.answer, answer.reason) == (Answer.REJECTED, RejectionReason.CONFLICT)
    await casino.signal(other)

    rejections = await casino.rejections(2)
    assert {rejection.reason for rejection in rejections} == {RejectionReason.CONFLICT}
    assert all(str(other.stake) in rejection.payload for rejection in rejections)
    await casino.idle()
    await casino.assert_settled_once([original])


async def lose_lane(casino: Casino, **settings: int) -> None:
    """Ends the lane with all that it knows, and starts it anew."""
    await casino.batcher().terminate()
    await casino.open_lane(**settings)


async def test_the_journal_knows_a_duplicate_that_the_lane_has_forgotten(casino: Casino) -> None:
    await casino.open_lane()
    bets = some_bets(3)
    await casino.place_many(bets)
    await casino.idle()
    await lose_lane(casino)

    fresh = bet("fresh")
    answers = await casino.place_many([*bets, fresh])
    assert {answer.answer for answer in answers} == {Answer.ACCEPTED}
    await casino.idle()
    await casino.assert_settled_once([*bets, fresh])


async def test_a_batch_resent_whole_to_a_lane_that_has_forgotten_it_is_not_settled_again(casino: Casino) -> None:
    await casino.open_lane()
    bets = some_bets(3)
    await casino.place_many(bets)
    await casino.idle()
    await lose_lane(casino)
    await casino.place_many(bets)
    await casino.idle()
    assert casino.ledger.payments == 1
    await casino.assert_settled_once(bets)


async def test_the_journal_knows_a_conflict_that_the_lane_has_forgotten(casino: Casino) -> None:
    await casino.open_lane()
    original, other, fresh = bet("same-id"), bet("same-id", stake=999), bet("fresh")
    await casino.place_many([original])
    await casino.idle()
    await lose_lane(casino)
    await casino.place_many([other, fresh])
    await casino.idle()
    (rejection,) = await casino.rejections(1)
    assert (rejection.bet_id, rejection.reason) == ("same-id", RejectionReason.CONFLICT)
    assert (await casino.record_of(original)).status is BetStatus.SETTLED
    await casino.assert_settled_once([original, fresh])


async def test_a_lane_lost_with_batches_in_flight_settles_their_bets_once(casino: Casino) -> None:
    await casino.open_lane(max_bets=3)
    casino.prover.gate.clear()
    bets = some_bets(6)
    await casino.place_many(bets)

    async def both_claimed() -> bool:
        return len(casino.prover.waiting) == 2

    await casino.soon(both_claimed)
    # Cut at once: the test server skips no time while a child runs whose parent was terminated.
    await lose_lane(casino, max_bets=6)
    await casino.place_many(bets)
    casino.prover.gate.set()

    async def all_final() -> bool:
        statuses = [batch.status for batch in await casino.batches()]
        return statuses == [BatchStatus.CONFIRMED, BatchStatus.CONFIRMED, BatchStatus.FAILED]

    await casino.soon(all_final)
    await casino.assert_settled_once(bets)
