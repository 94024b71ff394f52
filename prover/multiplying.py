"""Multiples of one point of each of BN254's groups, many at once: what a set-up is made of, and Python is too slow for.

groth16py multiplies in Rust, but only in the set-up of a circuit. So it is given a circuit made up of one constraint, whose
coefficients are the numbers to multiply by: where (Σ a_i·w_i)(Σ b_i·w_i) = 0 is the only constraint, arkworks' set-up gives to wire i
the points a_i·P and b_i·P of G1 and b_i·Q of G2, for points P and Q that it draws. It is a set-up of that circuit, and useless
as such; P and Q are as good as any generators.
"""

import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from prover.child import run_program
from prover.contributions import COORDINATE_BYTES, G1_BYTES, G2_BYTES
from prover.memory_files import descriptor_of, path_of
from prover.r1cs import FIELD_BYTES, HEADER, R1CS_CONSTRAINTS, R1CS_HEADER, R1CS_LABELS, TERM, r1cs_file
from settlement.poseidon import FIELD_MODULUS
from settlement.verifying_keys import BASE_FIELD_MODULUS

MULTIPLY_TIMEOUT_SECONDS: Final = 600.0
"""Over ten times what the largest shape (280x56) takes on two busy cores."""
PUBLIC_WIRES: Final = 2
"""One and an output; a set-up adds constraints of its own for them, so no number is theirs."""

_MAGIC: Final = b"g16pk1"
_VERIFYING_KEY_BYTES: Final = G1_BYTES + 3 * G2_BYTES
_LENGTH_BYTES: Final = 8
_COORDINATE: Final = (1 << 254) - 1
"""A point's last bits are flags: which of the two points of its x it is, and whether it is the point at infinity, which is all zeros."""
_TO_MONTGOMERY: Final = pow(2, 8 * COORDINATE_BYTES, BASE_FIELD_MODULUS)


class Multiples(NamedTuple):
    """Points one behind the other as a `.zkey` keeps them: in Montgomery form, little-endian, zeros for the point at infinity.

    `left`: of G1, `right`: of G1, and `right_2` the same multiples of G2.
    """

    left: bytes
    right: bytes
    right_2: bytes


def multiples(left: Sequence[int], right: Sequence[int]) -> Multiples:
    """`left` times P, `right` times P and `right` times Q, for random P and Q. Raises `ValueError` if groth16py fails."""
    wires = PUBLIC_WIRES + max(len(left), len(right))
    made_up = _made_up(left, right, wires)
    # The numbers may be what nobody may know: the file has no name, and does not outlive the processes.
    with tempfile.TemporaryDirectory(prefix="multiplying-") as folder, descriptor_of(made_up) as circuit:
        products = Path(folder) / "products"
        said = run_program(
            "multiplying_process.py",
            Path(path_of(circuit)),
            products,
            seconds=MULTIPLY_TIMEOUT_SECONDS,
            descriptors=[circuit],
        )
        if said is not None:
            raise ValueError(said)
        content = products.read_bytes()
    return _read(content, len(left), len(right), wires)


def _made_up(left: Sequence[int], right: Sequence[int], wires: int) -> bytes:
    field = FIELD_MODULUS.to_bytes(FIELD_BYTES, "little")
    return r1cs_file(
        {
            R1CS_HEADER: HEADER.pack(FIELD_BYTES, field, wires, PUBLIC_WIRES - 1, 0, wires - PUBLIC_WIRES, wires, 1),
            R1CS_CONSTRAINTS: _form(left) + _form(right) + _form([]),
            R1CS_LABELS: b"".join(struct.pack("<Q", wire) for wire in range(wires)),
        }
    )


def _form(coefficients: Sequence[int]) -> bytes:
    terms = [
        TERM.pack(wire, value.to_bytes(FIELD_BYTES, "little"))
        for wire, value in enumerate(coefficients, PUBLIC_WIRES)
        if value
    ]
    return struct.pack("<I", len(terms)) + b"".join(terms)


def _read(content: bytes, left: int, right: int, wires: int) -> Multiples:
    """groth16py 0.2.0 writes "g16pk1" and then arkworks' uncompressed `ProvingKey`: the verifying key with a vector of G1 at its end,
    beta G1, delta G1, and the queries A (G1), B (G1), B (G2) and two more. A vector is its length (u64) and its points."""
    offset = len(_MAGIC) + _VERIFYING_KEY_BYTES

    def vector(point_bytes: int, length: int) -> bytes:
        nonlocal offset
        start = offset + _LENGTH_BYTES
        offset = start + length * point_bytes
        if content[start - _LENGTH_BYTES : start] != length.to_bytes(_LENGTH_BYTES, "little"):
            raise ValueError("groth16py's key has another layout than that of its release 0.2.0")
        return content[start:offset]

    if not content.startswith(_MAGIC):
        raise ValueError("groth16py's key has another layout than that of its release 0.2.0")
    vector(G1_BYTES, PUBLIC_WIRES)
    offset += 2 * G1_BYTES
    queries = [
        (vector(size, wires), size, count) for size, count in ((G1_BYTES, left), (G1_BYTES, right), (G2_BYTES, right))
    ]
    return Multiples(*(_as_kept(query[PUBLIC_WIRES * size :][: count * size], size) for query, size, count in queries))


def _as_kept(points: bytes, size: int) -> bytes:
    """arkworks' points as a `.zkey` has them."""
    values = [
        int.from_bytes(points[at : at + COORDINATE_BYTES], "little") for at in range(0, len(points), COORDINATE_BYTES)
    ]
    coordinates = size // COORDINATE_BYTES
    for last in range(coordinates - 1, len(values), coordinates):
        values[last] &= _COORDINATE
    return b"".join(
        [(value * _TO_MONTGOMERY % BASE_FIELD_MODULUS).to_bytes(COORDINATE_BYTES, "little") for value in values]
    )
