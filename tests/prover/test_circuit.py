"""The circuit as compiled: it outputs the domain's public input, takes no hints of its own and stays within its sizes.

What it refuses is in test_forged_witnesses.py.
"""

from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prover import circuit
from prover.inputs import circuit_signals
from prover.keys import key_files
from prover.zkey import read_zkey
from settlement.batches import Statement
from settlement.shapes import DEFAULT_SHAPE, DEFAULT_SHAPES, SHAPES, Shape
from tests.prover.circuits import CircuitOf
from tests.prover.conftest import KEYS_DIR

MAX_FFT_DOMAIN: Final = {"16x8": 2**11, "60x56": 2**13, "132x56": 2**14, "280x56": 2**15}
"""The proof's cost doubles where a shape outgrows its power of two."""

StatementOf = Callable[..., Statement]


@pytest.mark.parametrize(("bets", "players"), [(1, 1), (9, 9), (40, 2)], ids=lambda size: str(size))
def test_the_circuit_outputs_the_public_input_of_the_domain(
    circuit_of: CircuitOf, statement_of: StatementOf, bets: int, players: int
) -> None:
    statement = statement_of(bets, players)
    keys = circuit_of(statement.shape).keys
    assert keys.verifies(keys.prove_signals(circuit_signals(statement)), statement.public_input)


@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bets=st.integers(1, DEFAULT_SHAPE.bets), players=st.integers(1, DEFAULT_SHAPE.players), seed=st.integers(0, 2**32)
)
def test_random_batches_of_any_fill_are_proven(
    circuit_of: CircuitOf, statement_of: StatementOf, bets: int, players: int, seed: int
) -> None:
    statement = statement_of(max(bets, players), players, seed)
    keys = circuit_of(statement.shape).keys
    assert keys.verifies(keys.prove_signals(circuit_signals(statement)), statement.public_input)


def test_the_circuit_takes_no_hint_of_its_own() -> None:
    source = (circuit.CIRCUITS_DIR / "settlement.circom").read_text()
    code = "\n".join(line.split("//")[0] for line in source.splitlines())
    assert "<--" not in code
    assert "-->" not in code


@pytest.mark.parametrize(
    "shape",
    # The keys of shapes that are not in use by default take 20 seconds to make.
    [pytest.param(shape, marks=() if shape in DEFAULT_SHAPES else pytest.mark.slow) for shape in SHAPES],
    ids=lambda shape: shape.name,
)
def test_each_shape_stays_within_its_fft_domain_and_has_one_public_input(circuit_of: CircuitOf, shape: Shape) -> None:
    assert circuit_of(shape).keys.public_inputs == 1
    assert read_zkey(key_files(KEYS_DIR, shape).proving_key.read_bytes()).domain <= MAX_FFT_DOMAIN[shape.name]
