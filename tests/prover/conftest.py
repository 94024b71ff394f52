"""Keys, a loaded prover and honest statements for the prover's tests. The keys are kept under `var/circuits`, so they are made once."""

import hashlib
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import base58
import pytest

from prover.groth16 import Groth16Prover
from prover.keys import make_development_keys
from settlement.batches import Statement, statement_for
from settlement.bets import Bet

StatementOf = Callable[..., Statement]

MAX_TEST_STAKE_LAMPORTS = 2**56
"""64 of these stay below what a batch may sum to."""


@pytest.fixture(scope="session")
def keys_dir() -> Path:
    directory = Path(__file__).parents[2] / "var" / "circuits"
    make_development_keys(directory)
    return directory


@pytest.fixture(scope="session")
async def prover(keys_dir: Path) -> AsyncIterator[Groth16Prover]:
    prover = Groth16Prover(keys_dir, threads=2)
    await prover.load()
    yield prover
    prover.close()


@pytest.fixture(scope="session")
def statement_of() -> StatementOf:
    """`statement_of(bets, players, seed=0)`: an honest statement; every player has a bet."""
    return _statement


def _statement(bets: int, players: int, seed: int = 0) -> Statement:
    source = random.Random(f"{bets}/{players}/{seed}")
    keys = [base58.b58encode(hashlib.sha256(f"player {i}".encode()).digest()).decode() for i in range(players)]
    indices = sorted(source.sample(range(1, 2**32), players))
    source.shuffle(indices)
    return statement_for(
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
