"""The circuit's output is the domain's public input for batches of every number of bets, in every shape, and its constraints hold.

Witnesses come from the constraints themselves. The batch grows bet by bet, so that each witness is made from the last by what
changed: all constraints hold at a level if they did at an earlier one and those that touch a wire changed since hold now.
"""

from collections.abc import Sequence
from functools import cache
from typing import Final

import pytest

from settlement import commitment
from settlement.batches import Statement
from settlement.commitment import Slot
from settlement.poseidon import poseidon
from settlement.shapes import Shape
from tests.prover.circuits import EVERY_SHAPE, CircuitOf, inputs_of
from tests.prover.samples import random_batch

LEVELS_PER_CHECK: Final = {"16x8": 1, "60x56": 2, "132x56": 4, "280x56": 8}
"""The output is looked at on every level; all constraints on every so many, for they cost as much as the witness."""


@pytest.fixture
def remembered_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most hashes of a batch are those of the batch with one bet less."""

    @cache
    def remembered(values: tuple[int, ...]) -> int:
        return poseidon(values)

    def hash_of(values: Sequence[int]) -> int:
        return remembered(tuple(values))

    monkeypatch.setattr(commitment, "poseidon", hash_of)


@pytest.mark.usefixtures("remembered_hashes")
@pytest.mark.parametrize("shape", EVERY_SHAPE)
def test_the_circuit_says_what_the_domain_says_at_every_fill_level(circuit_of: CircuitOf, shape: Shape) -> None:
    circuit = circuit_of(shape)
    batch = random_batch(shape.bets, shape.players)
    (output,) = circuit.r1cs.outputs
    solution = circuit.forger.honest
    unchecked: frozenset[int] = frozenset()
    for bets in range(1, shape.bets + 1):
        statement = in_shape(batch.statement(bets), shape)
        solution = circuit.forger.plan.change(solution, inputs_of(statement).flat)
        assert solution.witness[output] == statement.public_input
        unchecked |= solution.changed
        if bets % LEVELS_PER_CHECK[shape.name] == 0:
            assert circuit.r1cs.broken(solution.witness, unchecked) == []
            unchecked = frozenset()
    assert circuit.r1cs.broken(solution.witness) == []


def in_shape(statement: Statement, shape: Shape) -> Statement:
    """`statement` as it is proven in `shape`, which need not be the smallest that holds it."""
    root = commitment.bets_root(statement.entries, statement.ids_digest, shape)
    identity = commitment.identity(statement.lane, statement.number, len(statement.entries))
    slots = [Slot(vault_index=slot.vault_index, net=slot.net) for slot in statement.slots]
    public_input = commitment.public_input(identity, root, slots, shape)
    return statement.model_copy(update={"shape": shape, "bets_root": root, "public_input": public_input})
