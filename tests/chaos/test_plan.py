"""The seed fixes what is done to the stack and when, and who bets what; every kind of kill and fault is in every run."""

from collections import Counter

import pytest

from chaos.bets import Crowd
from chaos.plan import LONGEST_DOWN_SECONDS, MIN_KILLS, NODES, Target, kinds_of_faults, make_plan
from settlement.intake import Door

SECONDS = 300.0
CROWD = Crowd(seed=7, bets=1_000, players=12, clients=3)


def test_same_seed_gives_the_same_plan_and_another_seed_another() -> None:
    assert make_plan(7, 100, SECONDS) == make_plan(7, 100, SECONDS)
    assert make_plan(7, 100, SECONDS).kills != make_plan(8, 100, SECONDS).kills
    assert make_plan(7, 100, SECONDS).faults != make_plan(8, 100, SECONDS).faults


@pytest.mark.parametrize("kills", [MIN_KILLS, MIN_KILLS + 1, 12, 100, 1000])
def test_exactly_so_many_kills_are_planned_and_each_kind_among_them(kills: int) -> None:
    plan = make_plan(7, kills, SECONDS)
    assert len(plan.kills) == kills
    assert {kill.target for kill in plan.kills} == set(Target)


@pytest.mark.parametrize("seconds", [20.0, SECONDS])
def test_every_kind_of_fault_is_planned_however_short_the_run(seconds: float) -> None:
    planned = Counter(fault.kind for fault in make_plan(7, MIN_KILLS, seconds).faults)
    assert set(planned) == set(kinds_of_faults())
    nodes = {fault.parameters["node"] for fault in make_plan(7, 100, SECONDS).faults if "node" in fault.parameters}
    assert nodes == {None, *range(NODES)}, "one node at a time, each of them, and all at once"


def test_instants_are_in_order_and_within_the_time() -> None:
    plan = make_plan(7, 100, SECONDS)
    for instants in ([kill.at for kill in plan.kills], [fault.at for fault in plan.faults]):
        assert instants == sorted(instants)
        assert 0 <= instants[0] < SECONDS / 10
        assert SECONDS * 0.9 < instants[-1] <= SECONDS
    assert all(0 <= kill.pick < 1 and 0 <= kill.down_seconds <= LONGEST_DOWN_SECONDS for kill in plan.kills)


def test_clients_share_the_bets_and_make_the_same_ones_again_after_a_kill() -> None:
    orders = [order for client in range(CROWD.clients) for order in CROWD.orders(client)]
    assert len({order.bet.bet_id for order in orders}) == len(orders) == CROWD.bets
    assert CROWD.orders(1) == Crowd(seed=7, bets=1_000, players=12, clients=3).orders(1)
    assert {order.door for order in orders} == set(Door)
    assert {order.again for order in orders} == {None, *Door}


def test_no_player_can_lose_more_than_he_is_said_to_need() -> None:
    needs = CROWD.needs()
    staked = Counter[str]()
    for client in range(CROWD.clients):
        for order in CROWD.orders(client):
            staked[order.bet.player] += order.bet.stake
    assert staked.keys() <= needs.keys()
    assert all(needs[player] == staked[player] for player in needs)
