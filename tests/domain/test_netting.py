"""Netting conserves money; batches are cut within their bounds; only the losses that must go are dropped."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settlement.bets import Bet
from settlement.limits import MAX_BATCH_STAKES_LAMPORTS
from settlement.netting import house_delta, losses_to_drop, net_by_player, prefix_that_fits
from tests.domain.samples import PLAYERS, batches, bet, bets, statement_of

ONE_PLAYER = st.lists(bets(st.integers(1, 1_000), st.just(PLAYERS[0])), max_size=20)
ANY_BETS = st.lists(bets(players=st.sampled_from(PLAYERS)), max_size=30)


@given(batches())
def test_what_players_gain_the_house_loses(batch: list[Bet]) -> None:
    nets = net_by_player(batch)
    assert sum(nets.values()) + house_delta(nets.values()) == 0
    statement = statement_of(batch)
    assert {slot.player: slot.net for slot in statement.slots} == nets
    assert statement.house_delta == house_delta(nets.values())


@given(batches())
def test_a_player_s_net_is_the_sum_of_his_bets_alone(batch: list[Bet]) -> None:
    nets = net_by_player(batch)
    assert list(nets) == list(dict.fromkeys(bet.player for bet in batch))
    for player, net in nets.items():
        assert net == sum(bet.delta for bet in batch if bet.player == player)


@given(batches(), st.data())
def test_the_order_of_bets_changes_no_net(batch: list[Bet], data: st.DataObject) -> None:
    assert net_by_player(data.draw(st.permutations(batch))) == net_by_player(batch)


def test_a_house_delta_beyond_a_signed_64_bit_amount_is_an_error() -> None:
    assert house_delta([MAX_BATCH_STAKES_LAMPORTS]) == -MAX_BATCH_STAKES_LAMPORTS
    with pytest.raises(AssertionError, match="bounded"):
        house_delta([MAX_BATCH_STAKES_LAMPORTS, 1])


@given(ANY_BETS, st.integers(1, 20), st.integers(1, 10))
def test_a_prefix_fits_and_one_bet_more_would_not(queue: list[Bet], max_bets: int, max_players: int) -> None:
    def fits(prefix: list[Bet]) -> bool:
        return (
            len(prefix) <= max_bets
            and len({bet.player for bet in prefix}) <= max_players
            and sum(bet.stake for bet in prefix) <= MAX_BATCH_STAKES_LAMPORTS
        )

    count = prefix_that_fits(queue, max_bets=max_bets, max_players=max_players)
    assert fits(queue[:count])
    assert count == len(queue) or not fits(queue[: count + 1])
    assert count >= 1 or not queue


@given(ONE_PLAYER, st.integers(0, 5_000))
def test_dropped_losses_are_the_latest_cover_the_rest_and_are_no_more_than_needed(
    own: list[Bet], available: int
) -> None:
    dropped = losses_to_drop(own, available)
    losses = [bet for bet in own if bet.delta < 0]
    assert dropped == losses[::-1][: len(dropped)]
    net = sum(bet.delta for bet in own)
    freed = [bet.stake for bet in dropped]
    assert available + net + sum(freed) >= 0
    if dropped:
        assert available + net + sum(freed[:-1]) < 0


@given(ONE_PLAYER)
def test_a_vault_that_covers_the_net_drops_nothing(own: list[Bet]) -> None:
    shortfall = max(0, -sum(bet.delta for bet in own))
    assert losses_to_drop(own, shortfall) == []
    assert not shortfall or losses_to_drop(own, shortfall - 1)


def test_an_earlier_loss_keeps_its_place_before_a_later_one() -> None:
    early, win, late = bet("early", stake=50), bet("win", stake=10, outcome="heads"), bet("late", stake=50)
    assert losses_to_drop([early, win, late], 60) == [late]
    assert losses_to_drop([early, win, late], 40) == [late]
    assert losses_to_drop([early, win, late], 39) == [late, early]
