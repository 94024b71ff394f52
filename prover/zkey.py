"""A ceremony's `.zkey`: whether it is whole, somebody has contributed to it, and it was made for our circuit.

What of the circuit can be read off the file is compared: its sizes, and the matrices A and B of its constraints, coefficient by
coefficient. The matrix C is only in the points of the key: that it is ours, the ceremony's own verification shows (`snarkjs zkey
verify`), against which the file's SHA-256 is pinned. Whether a proof made with the key verifies is the importer's to try.

Formats: https://github.com/iden3/snarkjs (`src/zkey_utils.js`, `src/zkey_new.js`) and
https://github.com/iden3/r1csfile/blob/master/doc/r1cs_bin_format.md.
"""

import struct
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Final

from prover.compiling import R1CS_CONSTRAINTS, R1CS_HEADER, r1cs_sections
from settlement.poseidon import FIELD_MODULUS
from settlement.verifying_keys import BASE_FIELD_MODULUS

PUBLIC_INPUTS: Final = 1

_MAGIC: Final = b"zkey"
_VERSION: Final = 1
_FILE_HEADER: Final = struct.Struct("<4sII")
_SECTION_HEADER: Final = struct.Struct("<IQ")
_GROTH16: Final = 1
_PROTOCOL, _HEADER, _IC, _COEFFICIENTS, _A, _B1, _B2, _C, _H, _CONTRIBUTIONS = range(1, 11)
"""The sections of a Groth16 key."""

_FIELD_BYTES: Final = 32
_G1_BYTES, _G2_BYTES = 64, 128
_GROTH16_HEADER: Final = struct.Struct("<I32sI32sIII64s64s128s128s64s128s")
_CIRCUIT_HASH_BYTES: Final = 64
_COEFFICIENT: Final = struct.Struct("<III32s")
_UNMONTGOMERY: Final = pow(pow(2, 2 * 8 * _FIELD_BYTES, FIELD_MODULUS), -1, FIELD_MODULUS)
"""Coefficients are kept multiplied by R², R = 2^256."""

_R1CS_HEADER: Final = struct.Struct("<I32sIIIIQI")
_TERM: Final = struct.Struct("<I32s")

Coefficients = Mapping[tuple[int, int, int], int]
"""By matrix (A 0, B 1), row and wire."""


class UnfitZkey(ValueError):
    """A file that cannot be our circuit's key from a ceremony. The text says why, as what follows the file's name."""


@dataclass(frozen=True)
class Zkey:
    """What the checks need of a Groth16 `.zkey`."""

    wires: int
    public_inputs: int
    domain: int
    gamma: bytes
    delta: bytes
    contributions: int
    sections: Mapping[int, memoryview]

    @property
    def coefficients(self) -> Coefficients:
        """The matrices A and B, as snarkjs completes them."""
        section = self.sections[_COEFFICIENTS]
        return {
            (matrix, row, wire): int.from_bytes(value, "little") * _UNMONTGOMERY % FIELD_MODULUS
            for matrix, row, wire, value in _COEFFICIENT.iter_unpack(section[4:])
        }


def read_zkey(content: bytes) -> Zkey:
    """Raises `UnfitZkey` unless `content` is a whole Groth16 key over BN254."""
    sections = _sections(content)
    missing = set(range(_PROTOCOL, _CONTRIBUTIONS + 1)) - sections.keys()
    if missing or bytes(sections[_PROTOCOL]) != _GROTH16.to_bytes(4, "little"):
        raise UnfitZkey("is no Groth16 key")
    if len(sections[_HEADER]) != _GROTH16_HEADER.size:
        raise UnfitZkey("is not a key over BN254")
    header = _GROTH16_HEADER.unpack(sections[_HEADER])
    base_bytes, base, scalar_bytes, scalar, wires, public_inputs, domain, _, _, _, gamma, _, delta = header
    moduli = (int.from_bytes(base, "little"), int.from_bytes(scalar, "little"))
    if (base_bytes, scalar_bytes, *moduli) != (_FIELD_BYTES, _FIELD_BYTES, BASE_FIELD_MODULUS, FIELD_MODULUS):
        raise UnfitZkey("is not a key over BN254")
    sizes = {
        _IC: (public_inputs + 1) * _G1_BYTES,
        _COEFFICIENTS: 4 + int.from_bytes(sections[_COEFFICIENTS][:4], "little") * _COEFFICIENT.size,
        _A: wires * _G1_BYTES,
        _B1: wires * _G1_BYTES,
        _B2: wires * _G2_BYTES,
        _C: (wires - public_inputs - 1) * _G1_BYTES,
        _H: domain * _G1_BYTES,
    }
    if any(len(sections[kind]) != size for kind, size in sizes.items()):
        raise UnfitZkey("is damaged: a section has not the size that its header tells")
    contributions = sections[_CONTRIBUTIONS][_CIRCUIT_HASH_BYTES : _CIRCUIT_HASH_BYTES + 4]
    return Zkey(wires, public_inputs, domain, gamma, delta, int.from_bytes(contributions, "little"), sections)


def require_fit(zkey: Zkey, r1cs: bytes) -> None:
    """Raises `UnfitZkey` unless somebody has contributed to `zkey` and it is for the circuit of `r1cs`."""
    if zkey.delta == zkey.gamma or zkey.contributions == 0:
        # Where phase 2 starts, delta is the generator, as gamma is: anybody can forge proofs.
        raise UnfitZkey("is not from a ceremony: nobody has contributed to its phase 2")
    if zkey.public_inputs != PUBLIC_INPUTS:
        raise UnfitZkey(f"is for another circuit: it has {zkey.public_inputs} public inputs, ours {PUBLIC_INPUTS}")
    sections = r1cs_sections(r1cs)
    _, _, wires, outputs, inputs, _, _, constraints = _R1CS_HEADER.unpack(sections[R1CS_HEADER])
    assert outputs + inputs == PUBLIC_INPUTS
    domain = 1 << circuit_power(r1cs)
    if (zkey.wires, zkey.domain) != (wires, domain):
        raise UnfitZkey(
            f"is for another circuit: {zkey.wires} wires in a domain of {zkey.domain}, ours has {wires} in {domain}"
        )
    rows = {(0, constraints + wire, wire): 1 for wire in range(PUBLIC_INPUTS + 1)}
    if zkey.coefficients != {**dict(_terms(sections[R1CS_CONSTRAINTS], constraints)), **rows}:
        raise UnfitZkey("is for another circuit: its constraints are not ours")


def circuit_power(r1cs: bytes) -> int:
    """How many powers of two the set-up of an `.r1cs` needs."""
    _, _, _, outputs, inputs, _, _, constraints = _R1CS_HEADER.unpack(r1cs_sections(r1cs)[R1CS_HEADER])
    # snarkjs adds a row for each public wire and one for the constant; log2 is rounded up.
    return (constraints + outputs + inputs).bit_length()


def _sections(content: bytes) -> dict[int, memoryview]:
    if len(content) < _FILE_HEADER.size or not content.startswith(_MAGIC):
        raise UnfitZkey("is no .zkey file")
    _, version, count = _FILE_HEADER.unpack_from(content)
    if version != _VERSION:
        raise UnfitZkey(f"is a .zkey of version {version}, {_VERSION} is understood")
    sections: dict[int, memoryview] = {}
    offset = _FILE_HEADER.size
    for _ in range(count):
        if offset + _SECTION_HEADER.size > len(content):
            raise UnfitZkey("is truncated")
        kind, size = _SECTION_HEADER.unpack_from(content, offset)
        offset += _SECTION_HEADER.size
        if kind in sections or offset + size > len(content):
            raise UnfitZkey("is truncated" if kind not in sections else "is damaged: it has a section twice")
        sections[kind] = memoryview(content)[offset : offset + size]
        offset += size
    if offset != len(content):
        raise UnfitZkey("is damaged: there is something behind its end")
    return sections


def _terms(section: memoryview, constraints: int) -> Generator[tuple[tuple[int, int, int], int]]:
    """The coefficients of A and B in an `.r1cs`."""
    offset = 0
    for row in range(constraints):
        for matrix in range(3):
            size = int.from_bytes(section[offset : offset + 4], "little") * _TERM.size
            offset += 4
            if matrix < 2:
                for wire, value in _TERM.iter_unpack(section[offset : offset + size]):
                    yield (matrix, row, wire), int.from_bytes(value, "little")
            offset += size
