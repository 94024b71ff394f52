"""The circuit's constraints as the compiler wrote them: read, checked against a witness, and written without some of them.

A constraint is (A·w)(B·w) = C·w over BN254's scalar field; wire 0 is one, then the outputs, the inputs and the rest.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from operator import itemgetter, mul
from pathlib import Path
from typing import Final, NamedTuple

from prover.compiling import R1CS_CONSTRAINTS, R1CS_HEADER, r1cs_sections
from settlement.poseidon import FIELD_MODULUS

Form = dict[int, int]
"""A linear form: coefficient by wire. Wire 0 carries the constant."""
Witness = Sequence[int]

FIELD_BYTES: Final = 32
_WTNS_VERSION: Final = 2


class Constraint(NamedTuple):
    a: Form
    b: Form
    c: Form


class CompiledForm:
    """A linear form made ready to be evaluated many times."""

    def __init__(self, form: Form) -> None:
        # Two terms at least: `itemgetter` gives a tuple only then.
        padded = [*form.items(), (0, 0), (0, 0)] if len(form) < 2 else list(form.items())
        self._pick = itemgetter(*(wire for wire, _ in padded))
        self._coefficients = [coefficient for _, coefficient in padded]

    def __call__(self, values: Sequence[int]) -> int:
        return sum(map(mul, self._coefficients, self._pick(values))) % FIELD_MODULUS


class R1cs:
    """The constraints of one circuit. `inputs`: its input wires, in the order of the signals' declaration."""

    def __init__(self, constraints: Sequence[Constraint], wire_count: int, outputs: range, inputs: range) -> None:
        self.constraints = constraints
        self.wire_count = wire_count
        self.outputs = outputs
        self.inputs = inputs
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
    """Raises `ValueError` for a file that is not a whole `.r1cs` over BN254's scalar field."""
    sections = r1cs_sections(path.read_bytes())
    header, body = sections[R1CS_HEADER], sections[R1CS_CONSTRAINTS]
    if (_number(header, 0, 4), _number(header, 4, FIELD_BYTES)) != (FIELD_BYTES, FIELD_MODULUS):
        raise ValueError("another field than BN254's")
    wires, outputs, public, private = (_number(header, 36 + 4 * i, 4) for i in range(4))
    assert public == 0, "every input of the circuit is private"
    offset = 0

    def form() -> Form:
        nonlocal offset
        size = 4 + FIELD_BYTES
        count = _number(body, offset, 4)
        offset += 4
        terms = {
            _number(body, start, 4): _number(body, start + 4, FIELD_BYTES)
            for start in range(offset, offset + count * size, size)
        }
        offset += count * size
        return terms

    constraints = [Constraint(form(), form(), form()) for _ in range(_number(header, 60, 4))]
    if offset != len(body):
        raise ValueError("constraints that do not fill their section")
    first_input = 1 + outputs
    return R1cs(constraints, wires, range(1, first_input), range(first_input, first_input + private))


def write_r1cs(circuit: R1cs, path: Path) -> None:
    """Writes `circuit` so that `groth16py.setup` can make keys for it; labels are the wires' numbers."""
    header = b"".join(
        (
            _bytes(FIELD_BYTES, 4),
            _bytes(FIELD_MODULUS, FIELD_BYTES),
            *(_bytes(count, 4) for count in (circuit.wire_count, len(circuit.outputs), 0, len(circuit.inputs))),
            _bytes(circuit.wire_count, 8),
            _bytes(len(circuit.constraints), 4),
        )
    )
    body = b"".join(
        _bytes(len(form), 4) + b"".join(_bytes(wire, 4) + _bytes(value, FIELD_BYTES) for wire, value in form.items())
        for constraint in circuit.constraints
        for form in constraint
    )
    labels = b"".join(_bytes(wire, 8) for wire in range(circuit.wire_count))
    path.write_bytes(b"r1cs" + _bytes(1, 4) + _file_of([header, body, labels]))


def write_witness(witness: Witness, path: Path) -> None:
    """Writes snarkjs's `.wtns`: https://github.com/iden3/binfileutils, and `wtns_utils.js` in snarkjs."""
    header = _bytes(FIELD_BYTES, 4) + _bytes(FIELD_MODULUS, FIELD_BYTES) + _bytes(len(witness), 4)
    values = b"".join(_bytes(value, FIELD_BYTES) for value in witness)
    path.write_bytes(b"wtns" + _bytes(_WTNS_VERSION, 4) + _file_of([header, values]))


def _file_of(sections: Sequence[bytes]) -> bytes:
    numbered = (_bytes(i, 4) + _bytes(len(section), 8) + section for i, section in enumerate(sections, 1))
    return _bytes(len(sections), 4) + b"".join(numbered)


def _bytes(value: int, size: int) -> bytes:
    return value.to_bytes(size, "little")


def _number(content: memoryview, offset: int, size: int) -> int:
    return int.from_bytes(content[offset : offset + size], "little")
