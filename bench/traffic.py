"""Who bets in a measurement, and on what: three mixes of traffic, all of it following from a seed. Pure.

The stakes are small, and each player's deposit covers the loss of all of his bets, so that none may be refused.
"""

import hashlib
import itertools
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from solders.pubkey import Pubkey

from settlement.bets import Bet, lane_of

STAKE_LAMPORTS: Final = 1_000
ZIPF_EXPONENT: Final = 1.0
"""The player of rank r bets so often as 1/r to this power."""

LEAST_DEPOSIT_LAMPORTS: Final = 10 * STAKE_LAMPORTS


class Mix(StrEnum):
    """How bets spread over players. *Few*: evenly over few; *Zipf*: some bet much, most hardly; *distinct*: each once, then again."""

    FEW = "few"
    ZIPF = "zipf"
    DISTINCT = "distinct"


@dataclass(frozen=True)
class Crowd:
    """So many bets of so many players. `name`: begins the bets' ids."""

    name: str
    mix: Mix
    bets: int
    players: int
    seed: int = 1

    def player_keys(self) -> list[str]:
        """The players' keys, by rank. Nobody can sign with them: their vaults are thrown away with the run."""
        return [
            str(Pubkey(hashlib.sha256(f"bench/{self.seed}/{player}".encode()).digest()))
            for player in range(self.players)
        ]

    def stream(self) -> Iterator[Bet]:
        """The bets in the order in which they are placed."""
        dice = random.Random(f"{self.name}/{self.seed}")
        for number, player in enumerate(itertools.islice(self._players(dice), self.bets)):
            yield Bet(
                bet_id=f"{self.name}-{number}",
                player=player,
                stake=dice.randint(1, STAKE_LAMPORTS),
                guess=dice.choice(("heads", "tails")),
                outcome=dice.choice(("heads", "tails")),
            )

    def deposits(self) -> dict[str, int]:
        """What each player needs, in lamports, to bear the loss of all of his bets."""
        times = Counter(bet.player for bet in self.stream())
        return {key: LEAST_DEPOSIT_LAMPORTS + times[key] * STAKE_LAMPORTS for key in self.player_keys()}

    def _players(self, dice: random.Random) -> Iterator[str]:
        keys = self.player_keys()
        match self.mix:
            case Mix.FEW:
                while True:
                    yield dice.choice(keys)
            case Mix.ZIPF:
                summed = list(itertools.accumulate(1 / rank**ZIPF_EXPONENT for rank in range(1, len(keys) + 1)))
                while True:
                    yield dice.choices(keys, cum_weights=summed)[0]
            case Mix.DISTINCT:
                while True:
                    yield from dice.sample(keys, len(keys))


def as_json(bet: Bet) -> dict[str, Any]:
    """As clients send it."""
    return bet.model_dump(mode="json", exclude_none=True)


def by_lane(bets: Sequence[Bet], lanes: int) -> list[list[Bet]]:
    """Each lane's bets, in order."""
    found: list[list[Bet]] = [[] for _ in range(lanes)]
    for bet in bets:
        found[lane_of(bet.player, lanes)].append(bet)
    return found
