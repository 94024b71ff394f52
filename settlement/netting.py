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


class Prefix:
    """How many of a queue's first bets make one batch, bounded by bets, distinct players and the sum of stakes.

    Grows along with the queue, so that no bet is looked at twice.
    """

    def __init__(self, max_bets: int, max_players: int) -> None:
        self._max_bets = max_bets
        self._max_players = max_players
        self._players: set[str] = set()
        self._stakes_lamports = 0
        self.count = 0
        self.is_full = False

    def take(self, bet: Bet) -> bool:
        """Whether the queue's next bet goes into the batch too. None does after one that did not."""
        is_new = bet.player not in self._players
        stakes_lamports = self._stakes_lamports + bet.stake
        if (
            self.is_full
            or self.count == self._max_bets
            or len(self._players) + is_new > self._max_players
            or stakes_lamports > MAX_BATCH_STAKES_LAMPORTS
        ):
            self.is_full = True
            return False
        self._players.add(bet.player)
        self._stakes_lamports = stakes_lamports
        self.count += 1
        self.is_full = self.count == self._max_bets
        return True


def prefix_that_fits(bets: Iterable[Bet], *, max_bets: int, max_players: int) -> int:
    """How many of the first `bets` make one batch."""
    prefix = Prefix(max_bets, max_players)
    for bet in bets:
        if not prefix.take(bet):
            break
    return prefix.count


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
