"""The constraints of a compiled circuit, read from its `.r1cs` file: (A·w)(B·w) = C·w over BN254's scalar field.

Wire 0 is one; then come the outputs, the inputs, all of them private, and the rest.

Format: https://github.com/iden3/r1csfile/blob/master/doc/r1cs_bin_format.md
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from settlement.poseidon import FIELD_MODULUS

R1CS_VERSION: Final = 1
R1CS_HEADER, R1CS_CONSTRAINTS, R1CS_LABELS = 1, 2, 3
"""The types of the sections that every `.r1cs` has."""
FIELD_BYTES: Final = 32
HEADER: Final = struct.Struct("<I32sIIIIQI")
"""Bytes of an element, the modulus, wires, outputs, public and private inputs, labels, constraints."""
TERM: Final = struct.Struct("<I32s")
"""Wire and coefficient."""

_MAGIC: Final = b"r1cs"
_COUNT_BYTES: Final = 4

Form = dict[int, int]
"""A linear form: coefficient by wire. Wire 0 carries the constant."""


class Constraint(NamedTuple):
    a: Form
    b: Form
    c: Form


class ConstraintSystem:
    """The constraints of one circuit. `inputs`: its input wires, in the order of the signals' declaration."""

    def __init__(self, constraints: Sequence[Constraint], wire_count: int, outputs: range, inputs: range) -> None:
        self.constraints = constraints
        self.wire_count = wire_count
        self.outputs = outputs
        self.inputs = inputs


def r1cs_sections(content: bytes) -> Mapping[int, memoryview]:
    """The sections of an `.r1cs` file by type; raises `ValueError` unless it is whole and ends with its last section."""
    if content[:4] != _MAGIC or _number(content, 4, 4) != R1CS_VERSION:
        raise ValueError("a file that is no .r1cs of version 1")
    sections: dict[int, memoryview] = {}
    offset = 12
    for _ in range(_number(content, 8, 4)):
        kind, size = _number(content, offset, 4), _number(content, offset + 4, 8)
        offset += 12
        sections[kind] = memoryview(content)[offset : offset + size]
        offset += size
    if offset != len(content) or not {R1CS_HEADER, R1CS_CONSTRAINTS, R1CS_LABELS} <= sections.keys():
        raise ValueError("a truncated or padded .r1cs")
    return sections


def r1cs_file(sections: Mapping[int, bytes]) -> bytes:
    """A whole `.r1cs` of these sections."""
    body = (struct.pack("<IQ", kind, len(content)) + content for kind, content in sections.items())
    return _MAGIC + struct.pack("<II", R1CS_VERSION, len(sections)) + b"".join(body)


def read_constraints(content: bytes) -> ConstraintSystem:
    """Raises `ValueError` for what is not a whole `.r1cs` over BN254's scalar field without public inputs."""
    sections = r1cs_sections(content)
    if len(sections[R1CS_HEADER]) != HEADER.size:
        raise ValueError("another field than BN254's")
    size, modulus, wires, outputs, public, private, _, count = HEADER.unpack(sections[R1CS_HEADER])
    if (size, int.from_bytes(modulus, "little")) != (FIELD_BYTES, FIELD_MODULUS):
        raise ValueError("another field than BN254's")
    if public:
        raise ValueError("a circuit with public inputs")
    body, offset = sections[R1CS_CONSTRAINTS], 0

    def form() -> Form:
        nonlocal offset
        start = offset + _COUNT_BYTES
        offset = start + TERM.size * int.from_bytes(body[offset:start], "little")
        return {wire: int.from_bytes(value, "little") for wire, value in TERM.iter_unpack(body[start:offset])}

    constraints = [Constraint(form(), form(), form()) for _ in range(count)]
    if offset != len(body):
        raise ValueError("constraints that do not fill their section")
    first_input = 1 + outputs
    return ConstraintSystem(constraints, wires, range(1, first_input), range(first_input, first_input + private))


def circuit_power(system: ConstraintSystem) -> int:
    """How many powers of two the set-up of a circuit needs: 2^this is its domain."""
    # A row is added for each public wire and one for the constant; log2 is rounded up.
    return (len(system.constraints) + len(system.outputs)).bit_length()


def _number(content: bytes, offset: int, size: int) -> int:
    return int.from_bytes(content[offset : offset + size], "little")
