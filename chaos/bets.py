"""The bets of a run, all of them following from its seed, so that a client that was killed knows what it had in hand.

Pure. The stakes are small, and each player's deposit covers the loss of all of his bets: none may be refused.
"""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from solders.pubkey import Pubkey

from settlement.bets import Bet
from settlement.intake import Door

MAX_STAKE_LAMPORTS: Final = 100_000
"""The most that `MAX_BETS` bets can win together is far below a house's bankroll."""

MAX_BETS: Final = 20_000
DOORS: Final = {Door.UPDATE: 0.66, Door.SIGNAL: 0.3, Door.WORKFLOW: 0.04}
"""Which part of the bets goes through which door. A workflow per bet costs the most by far, and as long as it waits too."""

AGAIN_SHARE: Final = 0.08
"""Sent once more although they were acknowledged, through any door."""


@dataclass(frozen=True)
class Order:
    """A bet to place. `due`: when, as a part (0…1) of the time for placing. `again`: the door to send it through once more."""

    bet: Bet
    door: Door
    due: float
    again: Door | None


@dataclass(frozen=True)
class Crowd:
    """Who bets: so many bets of so many players, shared by so many clients."""

    seed: int
    bets: int
    players: int
    clients: int

    def player_keys(self) -> list[str]:
        """The players' keys. Nobody can sign with them: their vaults are thrown away with the run."""
        return [
            str(Pubkey(hashlib.sha256(f"chaos/{self.seed}/{player}".encode()).digest()))
            for player in range(self.players)
        ]

    def orders(self, client: int) -> list[Order]:
        """What a client (0…`clients`-1) has to place, in the order in which it is due."""
        dice = random.Random(f"{self.seed}/{client}")
        keys, numbers = self.player_keys(), range(client, self.bets, self.clients)
        return [_order(dice, f"chaos-{self.seed}-{number}", keys, number / self.bets) for number in numbers]

    def needs(self) -> dict[str, int]:
        """What each player needs, in lamports, to bear the loss of all of his bets."""
        needed = dict.fromkeys(self.player_keys(), 0)
        for client in range(self.clients):
            for order in self.orders(client):
                needed[order.bet.player] += order.bet.stake
        return needed


def _order(dice: random.Random, bet_id: str, keys: Sequence[str], due: float) -> Order:
    bet = Bet(
        bet_id=bet_id,
        player=dice.choice(keys),
        stake=dice.randint(1, MAX_STAKE_LAMPORTS),
        guess=dice.choice(("heads", "tails")),
        outcome=dice.choice(("heads", "tails")),
    )
    return Order(bet, any_door(dice), due, any_door(dice) if dice.random() < AGAIN_SHARE else None)


def any_door(dice: random.Random) -> Door:
    """One of the doors, by their shares."""
    [door] = dice.choices(list(DOORS), list(DOORS.values()))
    return door
