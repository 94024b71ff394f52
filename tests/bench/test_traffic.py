"""The bets of a measurement are such that all of them can be settled, and its ceiling is of batches as a lane cuts them."""

import itertools
from collections import Counter
from dataclasses import replace
from typing import Final

import pytest

from bench.end_to_end import ONE_LANE
from bench.prover import cut, statements
from bench.traffic import Crowd, Mix
from settlement.netting import net_by_player
from settlement.shapes import smallest_shape

PLAYERS: Final = 100
BETS: Final = 1_000


@pytest.mark.parametrize("mix", Mix)
def test_a_crowd_places_the_same_bets_each_time_and_every_player_can_bear_to_lose_his(mix: Mix) -> None:
    crowd = Crowd("test", mix, bets=BETS, players=PLAYERS)
    bets, deposits = list(crowd.stream()), crowd.deposits()
    assert bets == list(crowd.stream())
    assert len({bet.bet_id for bet in bets}) == BETS
    assert deposits.keys() == set(crowd.player_keys())
    lost = net_by_player(bet.model_copy(update={"guess": "heads", "outcome": "tails"}) for bet in bets)
    assert all(deposits[player] >= -net for player, net in lost.items())


def test_the_mixes_differ_in_how_bets_spread_over_players() -> None:
    def most_and_least(mix: Mix) -> tuple[int, int]:
        times = Counter(bet.player for bet in Crowd("test", mix, bets=150, players=PLAYERS).stream())
        return max(times.values()), min(times.values())

    assert most_and_least(Mix.DISTINCT) == (2, 1)
    assert most_and_least(Mix.ZIPF)[0] > 3 * most_and_least(Mix.FEW)[0] / 2


def test_bets_are_cut_at_the_most_bets_or_players_whichever_comes_first() -> None:
    lanes = replace(ONE_LANE, max_batch_bets=60, max_batch_players=20)
    bets = list(Crowd("test", Mix.FEW, bets=BETS, players=PLAYERS).stream())
    batches = list(cut(bets, lanes))
    assert [bet for batch in batches for bet in batch] == bets
    for batch, following in itertools.pairwise(batches):
        players = {bet.player for bet in batch}
        assert len(batch) == 60 or (len(players) == 20 and following[0].player not in players)
        assert len(players) <= 20


def test_a_ceiling_is_of_the_shapes_that_the_traffic_comes_to() -> None:
    for mix in Mix:
        for statement in statements(Crowd("test", mix, bets=BETS, players=PLAYERS), ONE_LANE, 3):
            assert statement.shape == smallest_shape(len(statement.entries), len(statement.slots))
            full_of_bets = len(statement.entries) == ONE_LANE.max_batch_bets
            assert full_of_bets or len(statement.slots) == ONE_LANE.max_batch_players
