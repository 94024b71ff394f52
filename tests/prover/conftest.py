"""Keys, a loaded prover and honest statements for the prover's tests. The keys are kept under `var/circuits`, so they are made once."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import pytest

from prover.groth16 import Groth16Prover
from prover.making import make_development_keys
from settlement.batches import Statement
from settlement.shapes import SHAPES
from tests.prover.circuits import Circuit, CircuitOf
from tests.prover.samples import random_batch

StatementOf = Callable[..., Statement]

KEYS_DIR: Final = Path(__file__).parents[2] / "var" / "circuits"


@pytest.fixture(scope="session")
def keys_dir() -> Path:
    make_development_keys(KEYS_DIR)
    return KEYS_DIR


@pytest.fixture(scope="session")
async def prover(keys_dir: Path) -> AsyncIterator[Groth16Prover]:
    prover = Groth16Prover(keys_dir, threads=2)
    await prover.load()
    yield prover
    prover.close()


@pytest.fixture(scope="session")
def circuit_of() -> CircuitOf:
    """`circuit_of(shape)`: one circuit a shape; it has room left for attacks. Its keys are made when they are asked for."""
    circuits = {
        shape.name: Circuit(shape, KEYS_DIR, _statement(shape.bets * 3 // 4, shape.players - 2)) for shape in SHAPES
    }
    return lambda shape: circuits[shape.name]


@pytest.fixture(scope="session")
def statement_of() -> StatementOf:
    """`statement_of(bets, players, seed=0)`: an honest statement; every player has a bet."""
    return _statement


def _statement(bets: int, players: int, seed: int = 0) -> Statement:
    return random_batch(bets, players, seed).statement(bets)
