"""No forged witness passes: for every shape and attack the best one breaks what it attacks, and no proof of it verifies.

That an attack breaks nothing else shows that it is the best there is: were the constraints that it attacks gone, it would pass.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import groth16py
import pytest

from settlement import commitment
from settlement.commitment import Slot
from settlement.shapes import DEFAULT_SHAPE, SHAPES, Shape
from tests.prover.anatomy import Inputs
from tests.prover.attacks import (
    AMOUNT,
    ATTACKS,
    EMPTY,
    HONEST_EXTREMES,
    LAST,
    SMALL,
    WITHOUT_A_PUBLIC_INPUT,
    cancelling_in_no_slot,
)
from tests.prover.circuits import EVERY_SHAPE, CircuitOf, Keys
from tests.prover.forging import Forged, Forger
from tests.prover.r1cs import write_r1cs
from tests.prover.solving import Solution

SMALLEST: Final = SHAPES[0]

ONE_OF_EACH_KIND: Final = (
    "a delta off by 1, of a bet",
    "a lost bet as if won",
    "1000 moved within a trio to its second slot, of a bet",
    "an amount moved at the root, of a bet, from first slots",
    "a guess of 2",
    "an outcome of -1",
    "a stake of -5, made up for in bit 31",
    "a stake of 2^63 more, made up for in bit 62",
    "a second slot's bit of 2",
    "a third slot's bit of -1",
    "a bet of the second and the third slot",
    "a bet of a distant trio handed to the first, made up for in the lowest bit",
    "a bet handed to the neighbouring trio, made up for in the highest bit",
    "a bet in the first trio that there is not",
    "a net one higher",
)
"""One attack on each kind of constraint, and on a bit both with and without a wire of its own."""

PROVEN_ATTACKS: Final = tuple({name.partition(",")[0]: name for name in reversed(list(ATTACKS))}.values())
"""Each attack in one of the ways to make it: a proof costs 0.15 to 0.8 s and tells no more than the constraints do."""

PROVEN_EVERY: Final = 9
"""Larger shapes differ in size alone: on the default one, so many apart, some attacks are proven; `make test-slow` proves the rest."""

PROVEN: Final = [
    pytest.param(
        shape,
        name,
        id=f"{shape.name}-{name}",
        marks=[]
        if shape == SMALLEST or (shape == DEFAULT_SHAPE and number % PROVEN_EVERY == 1)
        else [pytest.mark.slow],
    )
    for shape in SHAPES
    for number, name in enumerate(PROVEN_ATTACKS)
]


def solved(forger: Forger, forged: Forged) -> Solution:
    return forger.solve(forged.inputs, forged.forgery)


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("shape", EVERY_SHAPE)
def test_a_forged_witness_breaks_what_it_attacks_and_nothing_else(
    circuit_of: CircuitOf, shape: Shape, name: str
) -> None:
    circuit = circuit_of(shape)
    forger, forged = circuit.forger, circuit.forged(name)
    solution = solved(forger, forged)
    nets = forger.nets_told(forged, solution.witness)
    assert not forger.tells_the_truth(forged.inputs, nets), "an attack must gain something"
    assert public_input_in(forger, solution.witness) == forger.public_input(forged.inputs, nets)
    assert forged.breaks
    assert set(forger.broken(solution)) == forged.breaks


@pytest.mark.parametrize(("shape", "name"), PROVEN)
def test_no_proof_of_a_forged_witness_verifies(circuit_of: CircuitOf, shape: Shape, name: str) -> None:
    circuit = circuit_of(shape)
    witness = solved(circuit.forger, circuit.forged(name)).witness
    proof = circuit.keys.prove(witness)
    assert not circuit.keys.verifies(proof, public_input_in(circuit.forger, witness))
    assert not circuit.keys.verifies(proof, public_input_in(circuit.forger, circuit.forger.honest.witness))


def public_input_in(forger: Forger, witness: list[int]) -> int:
    (output,) = forger.circuit.outputs
    return witness[output]


@pytest.mark.parametrize("shape", EVERY_SHAPE)
def test_the_honest_batch_that_attacks_start_from_holds_and_is_proven(circuit_of: CircuitOf, shape: Shape) -> None:
    circuit = circuit_of(shape)
    witness = circuit.forger.honest.witness
    assert truth_is_told(circuit.forger, circuit.forger.inputs, witness)
    assert circuit.r1cs.broken(witness) == []
    proof = circuit.keys.prove(witness)
    assert circuit.keys.verifies(proof, public_input_in(circuit.forger, witness))


@pytest.mark.parametrize("name", HONEST_EXTREMES)
@pytest.mark.parametrize("shape", EVERY_SHAPE)
def test_honest_extremes_hold(circuit_of: CircuitOf, shape: Shape, name: str) -> None:
    forger = circuit_of(shape).forger
    inputs = HONEST_EXTREMES[name](forger.inputs)
    solution = forger.solve(inputs)
    assert truth_is_told(forger, inputs, solution.witness)
    assert forger.broken(solution) == []


def truth_is_told(forger: Forger, inputs: Inputs, witness: list[int]) -> bool:
    nets = forger.anatomy.nets(witness)
    told, beyond = nets[: forger.shape.players], nets[forger.shape.players :]
    assert not any(beyond)
    assert public_input_in(forger, witness) == forger.public_input(inputs, told)
    return forger.tells_the_truth(inputs, told)


@pytest.mark.parametrize("name", HONEST_EXTREMES)
def test_honest_extremes_are_proven(circuit_of: CircuitOf, name: str) -> None:
    circuit = circuit_of(SMALLEST)
    witness = circuit.forger.solve(HONEST_EXTREMES[name](circuit.forger.inputs)).witness
    assert circuit.keys.verifies(circuit.keys.prove(witness), public_input_in(circuit.forger, witness))


def test_an_attack_would_pass_if_what_it_breaks_were_gone(circuit_of: CircuitOf, tmp_path: Path) -> None:
    circuit = circuit_of(SMALLEST)
    forger = circuit.forger
    solutions = {name: solved(forger, circuit.forged(name)) for name in ONE_OF_EACH_KIND}
    weakened = forger.circuit.without({number for solution in solutions.values() for number in forger.broken(solution)})
    write_r1cs(weakened, tmp_path / "weakened.r1cs")
    keys = Keys(*groth16py.setup(str(tmp_path / "weakened.r1cs")))
    for name, solution in solutions.items():
        proof = keys.prove(solution.witness)
        assert keys.verifies(proof, public_input_in(forger, solution.witness)), name


@pytest.mark.parametrize("shape", EVERY_SHAPE)
def test_every_kind_of_constraint_on_a_bet_is_attacked(circuit_of: CircuitOf, shape: Shape) -> None:
    circuit = circuit_of(shape)
    forger = circuit.forger
    attacked = {number for name in ATTACKS for number in circuit.forged(name).breaks}
    bet = forger.anatomy.bets[SMALL]
    bits = (bet.stake_bits, bet.trio_bits)
    alone = bet.guess, bet.outcome, bet.second, bet.third, bet.exclusive, bet.both, bet.delta, bet.placed
    assert attacked >= {*alone, *bet.cuts, *(group.constraint for group in bits)}
    assert all(attacked & {forger.plan.booleans[wire] for wire in group.wires.values()} for group in bits)
    assert all(attacked & set(bet.halvings[level]) for level in (0, -1))


@pytest.mark.parametrize("shape", EVERY_SHAPE)
def test_a_witness_changed_in_parts_is_the_one_made_as_a_whole(circuit_of: CircuitOf, shape: Shape) -> None:
    """What makes the attacks fast, held to the slow way; on an attack that changes much."""
    circuit = circuit_of(shape)
    forger, forged = circuit.forger, circuit.forged("a bet in the last trio that bits can say")
    solution = solved(forger, forged)
    assert solution.witness == forger.plan.solve(forged.inputs.flat, forged.forgery).witness
    assert forger.broken(solution) == forger.circuit.broken(solution.witness)


# What the circuit leaves to the program: it only binds it into the public input, which the program makes itself.


def _two_bets_reordered(inputs: Inputs) -> Inputs:
    order = [1, 0, *range(2, len(inputs.stakes))]
    lists = {name: tuple(getattr(inputs, name)[i] for i in order) for name in LISTS}
    return replace(inputs, **lists)


LISTS: Final = ("stakes", "guesses", "outcomes", "trios", "seconds", "thirds")
UNCONSTRAINED: Final[Mapping[str, Callable[[Inputs], Inputs]]] = {
    "another batch or other vaults": lambda inputs: replace(inputs, scope=inputs.scope + 1),
    "another ids digest": lambda inputs: replace(inputs, ids_digest=inputs.ids_digest + 1),
    "two bets reordered": _two_bets_reordered,
    "a guess in an empty place": lambda inputs: inputs.with_bet(EMPTY, guess=1),
    "an outcome in an empty place": lambda inputs: inputs.with_bet(LAST, outcome=1),
    "a slot in an empty place": lambda inputs: inputs.with_bet(EMPTY, slot=3),
    "a trio that there is not in an empty place": lambda inputs: inputs.with_bet(EMPTY, trio=max(inputs.trios) + 1),
    "a slot beyond the last player's in an empty place": lambda inputs: inputs.with_bet(
        EMPTY, trio=max(inputs.trios), third=1
    ),
    "a bet in an empty place": lambda inputs: inputs.with_bet(EMPTY, stake=AMOUNT, slot=3),
    "guess and outcome both swapped": lambda inputs: inputs.with_bet(SMALL, guess=1, outcome=0),
}


@pytest.mark.parametrize("name", UNCONSTRAINED)
@pytest.mark.parametrize("shape", EVERY_SHAPE)
def test_what_is_left_to_the_program_holds_but_only_under_another_public_input(
    circuit_of: CircuitOf, shape: Shape, name: str
) -> None:
    forger = circuit_of(shape).forger
    honest = public_input_in(forger, forger.honest.witness)
    inputs = UNCONSTRAINED[name](forger.inputs)
    plain = forger.solve(inputs)
    assert forger.broken(plain) == []
    assert public_input_in(forger, plain.witness) != honest
    forced = forger.forced(inputs, honest)
    solution = solved(forger, forced)
    assert public_input_in(forger, solution.witness) == honest
    assert set(forger.broken(solution)) == forced.breaks


@pytest.mark.parametrize("name", ["another batch or other vaults", "two bets reordered", "a bet in an empty place"])
def test_what_is_left_to_the_program_is_not_proven_under_the_honest_public_input(
    circuit_of: CircuitOf, name: str
) -> None:
    circuit = circuit_of(SMALLEST)
    forger = circuit.forger
    honest = public_input_in(forger, forger.honest.witness)
    inputs = UNCONSTRAINED[name](forger.inputs)
    plain = forger.solve(inputs).witness
    proof = circuit.keys.prove(plain)
    assert circuit.keys.verifies(proof, public_input_in(forger, plain))
    assert not circuit.keys.verifies(proof, honest)
    assert not circuit.keys.verifies(circuit.keys.prove(solved(forger, forger.forced(inputs, honest)).witness), honest)


@pytest.mark.parametrize("shape", EVERY_SHAPE)
def test_bets_that_cancel_in_a_slot_that_there_is_not_stand_under_a_root_of_the_program_s(
    circuit_of: CircuitOf, shape: Shape
) -> None:
    """What a receipt's check of its slot is for."""
    circuit = circuit_of(shape)
    forger = circuit.forger
    inputs = cancelling_in_no_slot(forger.inputs, shape.players)
    solution = forger.solve(inputs)
    assert forger.broken(solution) == []
    assert forger.has_public_input(solution.witness)
    told = public_input_in(forger, solution.witness)
    assert told == forger.public_input(inputs, forger.anatomy.nets(solution.witness)[: shape.players])
    if shape == SMALLEST:
        assert circuit.keys.verifies(circuit.keys.prove(solution.witness), told)


@pytest.mark.parametrize("name", WITHOUT_A_PUBLIC_INPUT)
@pytest.mark.parametrize("shape", EVERY_SHAPE)
def test_bets_that_come_to_more_than_the_program_can_say_hold_but_have_no_public_input(
    circuit_of: CircuitOf, shape: Shape, name: str
) -> None:
    forger = circuit_of(shape).forger
    inputs = WITHOUT_A_PUBLIC_INPUT[name](forger.inputs, shape.players)
    solution = forger.solve(inputs)
    assert forger.broken(solution) == []
    assert not forger.has_public_input(solution.witness)
    if "slot" not in name:
        with pytest.raises(ValueError, match="64 signed bits"):
            commitment.public_input(
                1, 0, [Slot(vault_index=1, net=net) for net in inputs.true_nets(shape.players)], shape
            )
