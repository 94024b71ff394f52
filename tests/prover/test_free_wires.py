"""No wire of the circuit is free: at random valid witnesses the Jacobian of the constraints has full column rank over all wires but
the inputs."""

from collections.abc import Callable

import pytest

from settlement.batches import Statement
from settlement.shapes import SHAPES, Shape
from tests.prover.attacks import SMALL
from tests.prover.circuits import EVERY_SHAPE, CircuitOf, inputs_of
from tests.prover.jacobian import jacobian, rank, unknown_wires
from tests.prover.r1cs import Constraint, R1cs

StatementOf = Callable[..., Statement]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("shape", EVERY_SHAPE)
def test_no_wire_but_the_inputs_can_move(
    circuit_of: CircuitOf, statement_of: StatementOf, shape: Shape, seed: int
) -> None:
    circuit = circuit_of(shape)
    inputs = inputs_of(statement_of(shape.bets - 1, shape.players - 1, seed))
    witness = circuit.forger.solve(inputs).witness
    assert circuit.r1cs.broken(witness) == []
    assert rank(jacobian(circuit.r1cs, witness)) == unknown_wires(circuit.r1cs)


def test_no_wire_of_a_full_batch_can_move(circuit_of: CircuitOf, statement_of: StatementOf) -> None:
    circuit = circuit_of(SHAPES[0])
    witness = circuit.forger.solve(inputs_of(statement_of(16, 8))).witness
    assert rank(jacobian(circuit.r1cs, witness)) == unknown_wires(circuit.r1cs)


def test_a_wire_is_found_free_once_the_constraints_that_hold_it_are_gone(circuit_of: CircuitOf) -> None:
    forger = circuit_of(SHAPES[0]).forger
    # In the first trio: what of a bet in another one is handed to where there is no trio, the cuts hold.
    bet = forger.anatomy.bets[SMALL]
    freeing: list[set[int] | frozenset[int]] = [
        {bet.both},
        {bet.delta},
        {bet.placed},
        {bet.halvings[0][0]},
        {forger.plan.booleans[bet.stake_bits.wires[5]], bet.stake_bits.constraint},
        forger.forced(forger.inputs, 0).breaks,
    ]
    for gone in freeing:
        weakened = forger.circuit.without(gone)
        assert rank(jacobian(weakened, forger.honest.witness)) == unknown_wires(weakened) - 1


def test_the_rank_counts_what_is_independent_and_no_more() -> None:
    assert rank([{0: 1, 1: 2}, {0: 2, 1: 4}, {1: 5, 2: 1}]) == 2
    assert rank([{0: 1, 1: 1}, {1: 1, 2: 1}, {0: 1, 2: -1}, {}]) == 2
    assert rank([{0: 3, 1: 1}, {0: 1, 1: 3}]) == 2
    # Wires: one, output, input, and one that nothing holds; output = input².
    square = R1cs([Constraint({2: 1}, {2: 1}, {1: 1})], 4, range(1, 2), range(2, 3))
    assert (rank(jacobian(square, [1, 9, 3, 5])), unknown_wires(square)) == (1, 2)
