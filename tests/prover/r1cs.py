"""The circuit's constraints as tests need them: checked against a witness, and written without some of them."""

import struct
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from operator import itemgetter, mul
from pathlib import Path

from prover.r1cs import (
    FIELD_BYTES,
    HEADER,
    R1CS_CONSTRAINTS,
    R1CS_HEADER,
    R1CS_LABELS,
    TERM,
    Constraint,
    ConstraintSystem,
    Form,
    r1cs_file,
    read_constraints,
)
from settlement.poseidon import FIELD_MODULUS

Witness = Sequence[int]


class CompiledForm:
    """A linear form made ready to be evaluated many times."""

    def __init__(self, form: Form) -> None:
        # Two terms at least: `itemgetter` gives a tuple only then.
        padded = [*form.items(), (0, 0), (0, 0)] if len(form) < 2 else list(form.items())
        self._pick = itemgetter(*(wire for wire, _ in padded))
        self._coefficients = [coefficient for _, coefficient in padded]

    def __call__(self, values: Sequence[int]) -> int:
        return sum(map(mul, self._coefficients, self._pick(values))) % FIELD_MODULUS


class R1cs(ConstraintSystem):
    """The constraints of one circuit, ready to be checked."""

    def __init__(self, constraints: Sequence[Constraint], wire_count: int, outputs: range, inputs: range) -> None:
        super().__init__(constraints, wire_count, outputs, inputs)
        self._compiled = [(CompiledForm(a), CompiledForm(b), CompiledForm(c)) for a, b, c in constraints]

    def broken(self, witness: Witness, touching: frozenset[int] | None = None) -> list[int]:
        """The numbers of the constraints that `witness` does not satisfy, ascending; only those `touching` these wires, if given."""
        assert len(witness) == self.wire_count
        assert witness[0] == 1
        numbers = range(len(self._compiled)) if touching is None else self._touching(touching)
        found: list[int] = []
        for number in numbers:
            a, b, c = self._compiled[number]
            if (a(witness) * b(witness) - c(witness)) % FIELD_MODULUS:
                found.append(number)
        return found

    def _touching(self, wires: frozenset[int]) -> list[int]:
        return sorted({number for wire in wires for number in self._constraints_on.get(wire, ())})

    @cached_property
    def _constraints_on(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = defaultdict(list)
        for number, (a, b, c) in enumerate(self.constraints):
            for wire in a.keys() | b.keys() | c.keys():
                found[wire].append(number)
        return found

    def without(self, dropped: Iterable[int]) -> "R1cs":
        """The same circuit with the constraints of these numbers gone."""
        gone = set(dropped)
        kept = [constraint for number, constraint in enumerate(self.constraints) if number not in gone]
        return R1cs(kept, self.wire_count, self.outputs, self.inputs)


def read_r1cs(path: Path) -> R1cs:
    """Raises `ValueError` for a file that is not a whole `.r1cs` of a circuit of ours."""
    system = read_constraints(path.read_bytes())
    return R1cs(system.constraints, system.wire_count, system.outputs, system.inputs)


def write_r1cs(circuit: ConstraintSystem, path: Path) -> None:
    """Writes `circuit` so that keys can be made for it; labels are the wires' numbers."""
    field = FIELD_MODULUS.to_bytes(FIELD_BYTES, "little")
    counts = circuit.wire_count, len(circuit.outputs), 0, len(circuit.inputs), circuit.wire_count
    path.write_bytes(
        r1cs_file(
            {
                R1CS_HEADER: HEADER.pack(FIELD_BYTES, field, *counts, len(circuit.constraints)),
                R1CS_CONSTRAINTS: b"".join(_packed(form) for constraint in circuit.constraints for form in constraint),
                R1CS_LABELS: b"".join(struct.pack("<Q", wire) for wire in range(circuit.wire_count)),
            }
        )
    )


def _packed(form: Form) -> bytes:
    terms = (TERM.pack(wire, value.to_bytes(FIELD_BYTES, "little")) for wire, value in form.items())
    return struct.pack("<I", len(form)) + b"".join(terms)
