"""A key as a `.zkey`: written for development, and read: whether it is whole, what contributions it names, and whether it says that
it is for our circuit.

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

from prover.contributions import (
    COORDINATE_BYTES,
    G1_BYTES,
    G2_BYTES,
    Contribution,
    FileKind,
    UnfitFile,
    contributions_in,
    file_of,
    require_ended,
    sections_of,
    uncompressed,
)
from prover.r1cs import ConstraintSystem, circuit_power
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
_MONTGOMERY: Final = pow(2, 2 * 8 * COORDINATE_BYTES, FIELD_MODULUS)
"""Coefficients are kept multiplied by R², R = 2^256."""
_UNMONTGOMERY: Final = pow(_MONTGOMERY, -1, FIELD_MODULUS)
_NO_CONTRIBUTIONS: Final = bytes(64 + 4)
"""A hash, which nobody looks at, and their count."""

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


@dataclass(frozen=True)
class ZkeyPoints:
    """The points of a `.zkey` as it keeps them, by the names of its sections."""

    alpha_1: bytes
    beta_1: bytes
    beta_2: bytes
    gamma_2: bytes
    delta_1: bytes
    delta_2: bytes
    ic: bytes
    a: bytes
    b_1: bytes
    b_2: bytes
    c: bytes
    h: bytes


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


def require_fit(zkey: Zkey, system: ConstraintSystem) -> None:
    """Raises `UnfitFile` unless `zkey` says that enough people have contributed to it, a beacon has ended it, and it is for `system`."""
    if zkey.gamma != G2_GENERATOR:
        raise UnfitFile("is not from a ceremony: its gamma is not the generator, so somebody may know it")
    if zkey.delta == zkey.gamma or not zkey.contributions:
        # Where phase 2 starts, delta is the generator, as gamma is: anybody can forge proofs.
        raise UnfitFile("is not from a ceremony: nobody has contributed to its phase 2")
    require_ended(zkey.contributions)
    if zkey.public_inputs != PUBLIC_INPUTS:
        raise UnfitFile(f"is for another circuit: it has {zkey.public_inputs} public inputs, ours {PUBLIC_INPUTS}")
    domain = 1 << circuit_power(system)
    if (zkey.wires, zkey.domain) != (system.wire_count, domain):
        raise UnfitFile(
            f"is for another circuit: {zkey.wires} wires in a domain of {zkey.domain},"
            f" ours has {system.wire_count} in {domain}"
        )
    if zkey.coefficients != dict(_coefficients(system)):
        raise UnfitFile("is for another circuit: its constraints are not ours")


def zkey_file(system: ConstraintSystem, points: ZkeyPoints) -> bytes:
    """A whole `.zkey` of `points`, to which nobody has contributed."""
    moduli = [modulus.to_bytes(COORDINATE_BYTES, "little") for modulus in (BASE_FIELD_MODULUS, FIELD_MODULUS)]
    header = _GROTH16_HEADER.pack(
        COORDINATE_BYTES,
        moduli[0],
        COORDINATE_BYTES,
        moduli[1],
        system.wire_count,
        PUBLIC_INPUTS,
        1 << circuit_power(system),
        points.alpha_1,
        points.beta_1,
        points.beta_2,
        points.gamma_2,
        points.delta_1,
        points.delta_2,
    )
    coefficients = [
        _COEFFICIENT.pack(*place, (value * _MONTGOMERY % FIELD_MODULUS).to_bytes(COORDINATE_BYTES, "little"))
        for place, value in _coefficients(system)
    ]
    return file_of(
        FileKind.ZKEY,
        {
            _PROTOCOL: _GROTH16.to_bytes(4, "little"),
            _HEADER: header,
            _IC: points.ic,
            _COEFFICIENTS: len(coefficients).to_bytes(4, "little") + b"".join(coefficients),
            _A: points.a,
            _B1: points.b_1,
            _B2: points.b_2,
            _C: points.c,
            _H: points.h,
            _CONTRIBUTIONS: _NO_CONTRIBUTIONS,
        },
    )


def _coefficients(system: ConstraintSystem) -> Generator[tuple[tuple[int, int, int], int]]:
    """Those of A and B, with the row that a set-up adds for each public wire."""
    for row, constraint in enumerate(system.constraints):
        for matrix, form in enumerate((constraint.a, constraint.b)):
            for wire, value in form.items():
                yield (matrix, row, wire), value
    for wire in range(PUBLIC_INPUTS + 1):
        yield (0, len(system.constraints) + wire, wire), 1
