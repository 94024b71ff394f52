"""The circuit as compiled: it outputs the domain's public input, takes no hints of its own and stays within its sizes.

What it refuses is in test_forged_witnesses.py. Here the witnesses are the compiler's own.
"""

from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prover import circuit
from prover.inputs import circuit_signals
from prover.keys import key_files
from settlement.batches import Statement
from settlement.shapes import DEFAULT_SHAPES, SHAPES, Shape
from tests.prover.circuits import CircuitOf
from tests.prover.conftest import KEYS_DIR

MAX_FFT_DOMAIN: Final = {"16x8": 2**12, "64x16": 2**13, "64x32": 2**14, "256x32": 2**15}
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
@given(bets=st.integers(1, 64), players=st.integers(1, 16), seed=st.integers(0, 2**32))
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
    assert _fft_domain(key_files(KEYS_DIR, shape).proving_key.read_bytes()) <= MAX_FFT_DOMAIN[shape.name]


def _fft_domain(proving_key: bytes) -> int:
    """One more than the length of the H query, which has a point for each power of tau below the domain's size less one.

    groth16py 0.2.0 writes "g16pk1" and then arkworks' uncompressed `ProvingKey`: alpha G1, beta, gamma, delta G2, vector of G1,
    beta G1, delta G1, and the queries A (G1), B (G1), B (G2), H (G1), L (G1). A vector is its length (u64) and its points.
    """
    g1, g2, length = 64, 128, 8
    offset = len(b"g16pk1") + g1 + 3 * g2

    def skip(point_bytes: int) -> int:
        nonlocal offset
        count = int.from_bytes(proving_key[offset : offset + length], "little")
        offset += length + count * point_bytes
        return count

    skip(g1)
    offset += 2 * g1
    wires = [skip(g1), skip(g1), skip(g2)]
    h = skip(g1)
    private_wires = skip(g1)
    assert wires == [private_wires + 2] * 3, "the key is not laid out as documented here"
    return h + 1
