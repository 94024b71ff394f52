"""The prover's own witness: it holds in every constraint, is the one that the constraints determine, and the compiler's own code agrees."""

import random
import sys
from collections.abc import Callable
from pathlib import Path

import groth16py
import pytest

from prover import programs
from prover.circuit import include_dirs, main_source
from prover.inputs import circuit_signals, values_of
from prover.memory_files import file_of
from prover.programs import witness_program
from prover.r1cs import Constraint, ConstraintSystem
from prover.solving import Derivation
from prover.witness import WitnessProgram
from settlement.batches import Statement
from settlement.poseidon import FIELD_MODULUS
from settlement.shapes import SHAPES, Shape
from tests.prover.attacks import HONEST_EXTREMES
from tests.prover.circuits import CircuitOf, inputs_of
from tests.prover.r1cs import R1cs, write_r1cs

StatementOf = Callable[..., Statement]
ONE, OUTPUT, X, Y, INNER, OTHER = range(6)
"""The wires of the circuits made up here: one output, two inputs, two more."""


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_the_witness_of_any_batch_holds_in_every_constraint_and_has_its_public_input(
    circuit_of: CircuitOf, statement_of: StatementOf, shape: Shape
) -> None:
    circuit = circuit_of(shape)
    source = random.Random(shape.name)
    players = source.randint(2, shape.players - 1)
    full = statement_of(shape.bets, shape.players)
    fills = (statement_of(1, 1), statement_of(source.randint(players, shape.bets), players), full)
    for statement in fills:
        signals = circuit_signals(statement.model_copy(update={"shape": shape}))
        witness = circuit.program.witness(values_of(signals))
        assert circuit.r1cs.broken(witness) == []
        # Only of the last is it certain that its public input was made for this shape.
        assert statement is not full or witness[OUTPUT] == statement.public_input


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_the_witness_of_any_inputs_is_the_one_that_the_constraints_determine(
    circuit_of: CircuitOf, statement_of: StatementOf, shape: Shape
) -> None:
    """Whether or not anything true follows from the inputs."""
    circuit = circuit_of(shape)
    source = random.Random(shape.name)
    anything = [source.choice((0, 1, source.randrange(FIELD_MODULUS))) for _ in circuit.r1cs.inputs]
    batch = inputs_of(statement_of(shape.bets, shape.players))
    extremes = [extreme(batch).flat for extreme in HONEST_EXTREMES.values()]
    for inputs in (anything, *extremes):
        assert list(circuit.program.witness(inputs)) == circuit.plan.solve(inputs).witness


def test_the_compilers_own_witness_code_proves_the_same(
    statement_of: StatementOf, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    statement = statement_of(7, 5)
    (tmp_path / "main.circom").write_text(main_source(statement.shape))
    key, verifying_key = groth16py.setup_circom(str(tmp_path / "main.circom"), [str(path) for path in include_dirs()])
    capfd.readouterr()
    proof = groth16py.prove(key, circuit_signals(statement))
    assert groth16py.Verifier(verifying_key).verify(proof, [statement.public_input])


def test_another_number_of_inputs_is_refused(circuit_of: CircuitOf) -> None:
    program = circuit_of(SHAPES[0]).program
    for count in (0, program.inputs - 1, program.inputs + 1):
        with pytest.raises(ValueError, match=f"{count} inputs, the circuit has {program.inputs}"):
            program.witness([0] * count)


def program_of(constraints: list[Constraint], path: Path) -> WitnessProgram:
    write_r1cs(R1cs(constraints, 6, range(OUTPUT, X), range(X, INNER)), path)
    return WitnessProgram(witness_program(path.read_bytes()))


def test_products_that_only_together_make_a_wire_are_solved_for_it(tmp_path: Path) -> None:
    """inner + other = x·y and inner - other = x², so that both follow; output = -(inner)·(x - y)·3 + other."""
    constraints = [
        Constraint({X: 1}, {Y: 1}, {INNER: 1, OTHER: 1}),
        Constraint({X: FIELD_MODULUS - 1}, {X: 1}, {INNER: FIELD_MODULUS - 1, OTHER: 1}),
        Constraint({INNER: FIELD_MODULUS - 3}, {X: 1, Y: FIELD_MODULUS - 1}, {OUTPUT: 1, OTHER: FIELD_MODULUS - 1}),
    ]
    program = program_of(constraints, tmp_path / "circuit.r1cs")
    for x, y in ((3, 5), (0, 0), (7, FIELD_MODULUS - 9), (FIELD_MODULUS + 4, -2)):
        half = pow(2, -1, FIELD_MODULUS)
        inner, other = (x * y + x * x) * half, (x * y - x * x) * half
        output = -3 * inner * (x - y) + other
        expected = tuple(value % FIELD_MODULUS for value in (1, output, x, y, inner, other))
        assert program.witness([x, y]) == expected


def test_a_factor_that_is_always_zero_makes_zero(tmp_path: Path) -> None:
    constraints = [
        Constraint({X: 1}, {Y: 1}, {INNER: 1}),
        Constraint({X: 1}, {}, {OTHER: 1}),
        Constraint({INNER: 2}, {ONE: 1}, {OUTPUT: 1}),
    ]
    assert program_of(constraints, tmp_path / "circuit.r1cs").witness([6, 7]) == (1, 84, 6, 7, 42, 0)


@pytest.mark.parametrize("widths", [(3, 12), (12, 3)])
def test_a_value_may_be_taken_apart_into_bits_of_several_widths(widths: tuple[int, int]) -> None:
    constraints, first = list[Constraint](), OUTPUT + 2
    x = OUTPUT + 1
    for width in widths:
        bits = range(first, first + width - 1)
        lowest = {x: 1} | {wire: -(2 << at) % FIELD_MODULUS for at, wire in enumerate(bits)}
        constraints += [Constraint({wire: 1}, {wire: 1, ONE: FIELD_MODULUS - 1}, {}) for wire in bits]
        constraints.append(Constraint(lowest, {**lowest, ONE: FIELD_MODULUS - 1}, {}))
        first += width - 1
    constraints.append(Constraint({x: 1}, {x: 1}, {OUTPUT: 1}))
    derivation = Derivation(ConstraintSystem(constraints, first, range(OUTPUT, OUTPUT + 1), range(x, x + 1)))
    program = WitnessProgram(programs.program_of(derivation, bytes(32)))
    bits_of = [[0b101 >> at & 1 for at in range(1, width)] for width in widths]
    assert program.witness([0b101]) == (1, 25, 0b101, *bits_of[0], *bits_of[1])


def test_a_circuit_whose_constraints_leave_a_wire_open_gets_no_program(tmp_path: Path) -> None:
    constraints = [Constraint({X: 1}, {Y: 1}, {INNER: 1}), Constraint({X: 1}, {X: 1}, {OUTPUT: 1, OTHER: 1})]
    with pytest.raises(ValueError, match=r"do not determine 2 wires: \[1, 5\]"):
        program_of(constraints, tmp_path / "circuit.r1cs")


def test_bytes_are_handed_over_under_a_path_that_is_gone_afterwards() -> None:
    with file_of(b"witness") as path:
        assert Path(path).read_bytes() == b"witness"
        assert not sys.platform.startswith("linux") or path.startswith("/proc/self/fd/"), "no disk"
    with pytest.raises(OSError, match="No such file"):
        Path(path).read_bytes()
