"""A ceremony's `.zkey`: whether it is whole, what contributions it names, and whether it says that it is for our circuit.

What of the circuit can be read off the file is compared: its sizes, and the matrices A and B of its constraints, coefficient by
coefficient. The points of the key are not looked at, and they are what proofs are made of: those of a key for any other A, B and
C can stand beside our matrices. That they are ours, and that the contributions have made them, shows `snarkjs zkey verify` alone,
which needs the circuit and phase 1: `python -m ceremony verify`. Against what it has found good the file's SHA-256 is pinned.
Whether proofs made with the key verify is the importer's to try.

Formats: https://github.com/iden3/snarkjs (`src/zkey_utils.js`, `src/zkey_new.js`) and
https://github.com/iden3/r1csfile/blob/master/doc/r1cs_bin_format.md.
"""

import struct
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Final

from prover.compiling import R1CS_CONSTRAINTS, R1CS_HEADER, r1cs_sections
from prover.contributions import (
    COORDINATE_BYTES,
    G1_BYTES,
    G2_BYTES,
    Contribution,
    FileKind,
    UnfitFile,
    contributions_in,
    require_ended,
    sections_of,
    uncompressed,
)
from settlement.poseidon import FIELD_MODULUS
from settlement.verifying_keys import BASE_FIELD_MODULUS

PUBLIC_INPUTS: Final = 1

G2_GENERATOR: Final = bytes.fromhex(
    "198e9393920d483a7260bfb731fb5d25f1aa493335a9e71297e485b7aef312c2"
    "1800deef121f1e76426a00665e5c4479674322d4f75edadd46debd5cd992f6ed"
    "090689d0585ff075ec9e99ad690c3395bc4b313370b38ef355acdadcd122975b"
    "12c85ea5db8c6deb4aab71808dcb408fe3d1e7690c43d37b4ce6cc0166fa7daa"
)
"""Of EIP-197, in its encoding. snarkjs takes it for gamma, and delta begins there."""

_GROTH16: Final = 1
_PROTOCOL, _HEADER, _IC, _COEFFICIENTS, _A, _B1, _B2, _C, _H, _CONTRIBUTIONS = range(1, 11)
"""The sections of a Groth16 key."""

_GROTH16_HEADER: Final = struct.Struct("<I32sI32sIII64s64s128s128s64s128s")
_COEFFICIENT: Final = struct.Struct("<III32s")
_UNMONTGOMERY: Final = pow(pow(2, 2 * 8 * COORDINATE_BYTES, FIELD_MODULUS), -1, FIELD_MODULUS)
"""Coefficients are kept multiplied by R², R = 2^256."""

_R1CS_HEADER: Final = struct.Struct("<I32sIIIIQI")
_TERM: Final = struct.Struct("<I32s")

Coefficients = Mapping[tuple[int, int, int], int]
"""By matrix (A 0, B 1), row and wire."""


@dataclass(frozen=True)
class Zkey:
    """What the checks need of a Groth16 `.zkey`. `gamma`, `delta` (on G2) and `verifying_key` (all of it): encoded as on chain."""

    wires: int
    public_inputs: int
    domain: int
    gamma: bytes
    delta: bytes
    verifying_key: bytes
    contributions: tuple[Contribution, ...]
    sections: Mapping[int, memoryview]

    @property
    def coefficients(self) -> Coefficients:
        """The matrices A and B, as snarkjs completes them. Raises `UnfitFile` if it has one more than once: then they add up."""
        section = self.sections[_COEFFICIENTS]
        coefficients = {
            (matrix, row, wire): int.from_bytes(value, "little") * _UNMONTGOMERY % FIELD_MODULUS
            for matrix, row, wire, value in _COEFFICIENT.iter_unpack(section[4:])
        }
        if len(coefficients) != int.from_bytes(section[:4], "little"):
            raise UnfitFile("is damaged: it has a coefficient twice")
        return coefficients


def read_zkey(content: bytes) -> Zkey:
    """Raises `UnfitFile` unless `content` is a whole Groth16 key over BN254."""
    sections = sections_of(content, FileKind.ZKEY)
    missing = set(range(_PROTOCOL, _CONTRIBUTIONS + 1)) - sections.keys()
    if missing or bytes(sections[_PROTOCOL]) != _GROTH16.to_bytes(4, "little"):
        raise UnfitFile("is no Groth16 key")
    if len(sections[_HEADER]) != _GROTH16_HEADER.size:
        raise UnfitFile("is not a key over BN254")
    header = _GROTH16_HEADER.unpack(sections[_HEADER])
    base_bytes, base, scalar_bytes, scalar, wires, public_inputs, domain, alpha, _, beta, gamma, delta_1, delta = header
    moduli = (int.from_bytes(base, "little"), int.from_bytes(scalar, "little"))
    if (base_bytes, scalar_bytes, *moduli) != (COORDINATE_BYTES, COORDINATE_BYTES, BASE_FIELD_MODULUS, FIELD_MODULUS):
        raise UnfitFile("is not a key over BN254")
    sizes = {
        _IC: (public_inputs + 1) * G1_BYTES,
        _COEFFICIENTS: 4 + int.from_bytes(sections[_COEFFICIENTS][:4], "little") * _COEFFICIENT.size,
        _A: wires * G1_BYTES,
        _B1: wires * G1_BYTES,
        _B2: wires * G2_BYTES,
        _C: (wires - public_inputs - 1) * G1_BYTES,
        _H: domain * G1_BYTES,
    }
    if any(len(sections[kind]) != size for kind, size in sizes.items()):
        raise UnfitFile("is damaged: a section has not the size that its header tells")
    contributions = contributions_in(sections, FileKind.ZKEY)
    if contributions and contributions[-1].delta != delta_1:
        raise UnfitFile("is damaged: its delta is not the one that its last contribution has left")
    ic = bytes(sections[_IC])
    points = (alpha, beta, gamma, delta, *(ic[at : at + G1_BYTES] for at in range(0, len(ic), G1_BYTES)))
    return Zkey(
        wires=wires,
        public_inputs=public_inputs,
        domain=domain,
        gamma=uncompressed(gamma),
        delta=uncompressed(delta),
        verifying_key=b"".join(map(uncompressed, points)),
        contributions=contributions,
        sections=sections,
    )


def require_fit(zkey: Zkey, r1cs: bytes) -> None:
    """Raises `UnfitFile` unless `zkey` says that enough people have contributed to it, a beacon has ended it, and it is for `r1cs`."""
    if zkey.gamma != G2_GENERATOR:
        raise UnfitFile("is not from a ceremony: its gamma is not the generator, so somebody may know it")
    if zkey.delta == zkey.gamma or not zkey.contributions:
        # Where phase 2 starts, delta is the generator, as gamma is: anybody can forge proofs.
        raise UnfitFile("is not from a ceremony: nobody has contributed to its phase 2")
    require_ended(zkey.contributions)
    if zkey.public_inputs != PUBLIC_INPUTS:
        raise UnfitFile(f"is for another circuit: it has {zkey.public_inputs} public inputs, ours {PUBLIC_INPUTS}")
    sections = r1cs_sections(r1cs)
    _, _, wires, outputs, inputs, _, _, constraints = _R1CS_HEADER.unpack(sections[R1CS_HEADER])
    assert outputs + inputs == PUBLIC_INPUTS
    domain = 1 << circuit_power(r1cs)
    if (zkey.wires, zkey.domain) != (wires, domain):
        raise UnfitFile(
            f"is for another circuit: {zkey.wires} wires in a domain of {zkey.domain}, ours has {wires} in {domain}"
        )
    rows = {(0, constraints + wire, wire): 1 for wire in range(PUBLIC_INPUTS + 1)}
    if zkey.coefficients != {**dict(_terms(sections[R1CS_CONSTRAINTS], constraints)), **rows}:
        raise UnfitFile("is for another circuit: its constraints are not ours")


def circuit_power(r1cs: bytes) -> int:
    """How many powers of two the set-up of an `.r1cs` needs."""
    _, _, _, outputs, inputs, _, _, constraints = _R1CS_HEADER.unpack(r1cs_sections(r1cs)[R1CS_HEADER])
    # snarkjs adds a row for each public wire and one for the constant; log2 is rounded up.
    return (constraints + outputs + inputs).bit_length()


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
