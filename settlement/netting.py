"""From bets to one signed amount per player. Money is conserved by construction and asserted."""

from collections.abc import Iterable, Sequence

from settlement.bets import Bet
from settlement.limits import MAX_BATCH_STAKES_LAMPORTS


def net_by_player(bets: Iterable[Bet]) -> dict[str, int]:
    """Net change of each player's vault in lamports, in the order in which players first appear."""
    nets: dict[str, int] = {}
    for bet in bets:
        nets[bet.player] = nets.get(bet.player, 0) + bet.delta
    return nets


def house_delta(nets: Iterable[int]) -> int:
    """Net change of the house in lamports: the players' opposite."""
    delta = -sum(nets)
    assert abs(delta) <= MAX_BATCH_STAKES_LAMPORTS, "a batch's stakes must be bounded before it is netted"
    return delta


def prefix_that_fits(bets: Sequence[Bet], *, max_bets: int, max_players: int) -> int:
    """How many of the first `bets` make one batch: bounded by bets, distinct players and the sum of stakes."""
    players: set[str] = set()
    stakes_lamports = 0
    for count, bet in enumerate(bets):
        players.add(bet.player)
        stakes_lamports += bet.stake
        if count == max_bets or len(players) > max_players or stakes_lamports > MAX_BATCH_STAKES_LAMPORTS:
            return count
    return len(bets)


def losses_to_drop(bets: Sequence[Bet], available_lamports: int) -> list[Bet]:
    """Which of one player's bets to refuse so that the rest is covered by `available_lamports`: the latest losses first.

    Earlier bets were accepted when the vault still covered them, so they keep their place.
    """
    shortfall = -(sum(bet.delta for bet in bets) + available_lamports)
    dropped: list[Bet] = []
    for bet in reversed(bets):
        if shortfall <= 0:
            break
        if bet.delta < 0:
            dropped.append(bet)
            shortfall += bet.delta
    return dropped
