"""Honest random batches."""

import hashlib
import random
from typing import Final, NamedTuple

import base58

from settlement.batches import Statement, statement_for
from settlement.bets import Bet

MAX_TEST_STAKE_LAMPORTS: Final = 2**54
"""256 of these stay below what a batch may sum to."""


class RandomBatch(NamedTuple):
    lane: int
    number: int
    bets: list[Bet]
    vault_indices: dict[str, int]

    def statement(self, bets: int) -> Statement:
        """The statement over the first so many bets."""
        return statement_for(self.lane, self.number, self.bets[:bets], self.vault_indices)


def random_batch(bets: int, players: int, seed: int = 0) -> RandomBatch:
    """Each of the first bets is of another player, so that every player has one if there are as many bets."""
    source = random.Random(f"{bets}/{players}/{seed}")
    keys = [base58.b58encode(hashlib.sha256(f"player {i}".encode()).digest()).decode() for i in range(players)]
    indices = sorted(source.sample(range(1, 2**32), players))
    source.shuffle(indices)
    return RandomBatch(
        lane=source.randrange(2**16),
        number=source.randrange(2**64),
        bets=[
            Bet(
                bet_id=f"bet-{seed}-{i}",
                player=keys[i] if i < players else source.choice(keys),
                stake=source.randint(1, MAX_TEST_STAKE_LAMPORTS),
                guess=source.choice(("heads", "tails")),
                outcome=source.choice(("heads", "tails")),
            )
            for i in range(bets)
        ],
        vault_indices=dict(zip(keys, indices, strict=True)),
    )
