"""The contributions that a `.zkey` (phase 2) or a `.ptau` (phase 1) holds, read from its bytes alone.

It is only read off here who has contributed and what; that the file's points follow from it, nobody but `snarkjs zkey verify` and
`snarkjs powersoftau verify` finds out.

Formats: https://github.com/iden3/snarkjs (`src/zkey_utils.js`, `src/powersoftau_utils.js`) and
https://github.com/iden3/binfileutils. Hashes: `hashPubKey` in `src/zkey_utils.js`; EIP-197 for the points in them.
"""

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from settlement.verifying_keys import BASE_FIELD_MODULUS

MIN_CONTRIBUTIONS: Final = 2
"""To each phase. One honest contributor to each is enough; with two, neither needs to trust the other."""
REHEARSAL_BEACON: Final = "00" * 32
"""Everybody knows it, as befits a rehearsal: a key that was ended by it guards nothing."""
COORDINATE_BYTES: Final = 32
G1_BYTES: Final = 2 * COORDINATE_BYTES
G2_BYTES: Final = 4 * COORDINATE_BYTES

_FILE_HEADER: Final = struct.Struct("<4sII")
_VERSION: Final = 1
_SECTION_HEADER: Final = struct.Struct("<IQ")
_FROM_MONTGOMERY: Final = pow(pow(2, 8 * COORDINATE_BYTES, BASE_FIELD_MODULUS), -1, BASE_FIELD_MODULUS)
"""Coordinates are kept multiplied by R = 2^256."""

_ZKEY_SECTION: Final = 10
_PTAU_SECTION: Final = 7
_CIRCUIT_HASH_BYTES: Final = 64
_ZKEY_KEY: Final = struct.Struct("<64s64s64s128s64s")
"""delta after it; the public key (s, s·x, s'·x); the hash of all that was before."""
_PTAU_KEY: Final = struct.Struct("<448s768s216s64s")
"""tau, alpha and beta after it; the public keys; the state of a hash; the hash of the powers after it."""
_KIND_AND_SIZE: Final = struct.Struct("<II")
_BEACON: Final = 1
_NAME, _ITERATIONS, _BEACON_VALUE = 1, 2, 3


class UnfitFile(ValueError):
    """A file that cannot be what it is taken for. The text says why, as what follows the file's name."""


class FileKind(StrEnum):
    """The first bytes of a file of snarkjs', and the end of its name."""

    ZKEY = "zkey"
    PTAU = "ptau"


@dataclass(frozen=True)
class Contribution:
    """`digest`: what names it, in hex: of phase 2 snarkjs' "contribution hash", of phase 1 the "next challenge". `beacon`: in hex.

    `delta`: delta·G1 after a contribution to phase 2, as the file has it; empty for phase 1.
    """

    name: str
    digest: str
    beacon: str | None
    delta: bytes

    @property
    def is_beacon(self) -> bool:
        return self.beacon is not None


def sections_of(content: bytes, kind: FileKind) -> dict[int, memoryview]:
    """The sections of a file. Raises `UnfitFile` unless it is whole and has each once."""
    if len(content) < _FILE_HEADER.size or not content.startswith(kind.encode()):
        raise UnfitFile(f"is no .{kind} file")
    _, version, count = _FILE_HEADER.unpack_from(content)
    if version != _VERSION:
        raise UnfitFile(f"is a .{kind} of version {version}, {_VERSION} is understood")
    sections: dict[int, memoryview] = {}
    offset = _FILE_HEADER.size
    for _ in range(count):
        if offset + _SECTION_HEADER.size > len(content):
            raise UnfitFile("is truncated")
        number, size = _SECTION_HEADER.unpack_from(content, offset)
        offset += _SECTION_HEADER.size
        if number in sections or offset + size > len(content):
            raise UnfitFile("is truncated" if number not in sections else "is damaged: it has a section twice")
        sections[number] = memoryview(content)[offset : offset + size]
        offset += size
    if offset != len(content):
        raise UnfitFile("is damaged: there is something behind its end")
    return sections


def file_of(kind: FileKind, sections: Mapping[int, bytes]) -> bytes:
    """A whole file of these sections."""
    body = (_SECTION_HEADER.pack(number, len(content)) + content for number, content in sections.items())
    return _FILE_HEADER.pack(kind.encode(), _VERSION, len(sections)) + b"".join(body)


def contributions_in(sections: Mapping[int, memoryview], kind: FileKind) -> tuple[Contribution, ...]:
    """All of them, beacons too, the first first. Raises `UnfitFile`."""
    number, offset, key = (
        (_ZKEY_SECTION, _CIRCUIT_HASH_BYTES, _ZKEY_KEY) if kind is FileKind.ZKEY else (_PTAU_SECTION, 0, _PTAU_KEY)
    )
    if number not in sections:
        raise UnfitFile("is damaged: it has no section of contributions")
    section = bytes(sections[number])
    contributions: list[Contribution] = []
    try:
        (count,) = struct.unpack_from("<I", section, offset)
        offset += 4
        for _ in range(count):
            values = key.unpack_from(section, offset)
            type_, size = _KIND_AND_SIZE.unpack_from(section, offset + key.size)
            offset += key.size + _KIND_AND_SIZE.size
            parameters = _parameters(section[offset : offset + size], size)
            offset += size
            contributions.append(_contribution(kind, values, type_, parameters))
    except (struct.error, IndexError):
        raise UnfitFile("is damaged: its contributions are truncated") from None
    if offset != len(section):
        raise UnfitFile("is damaged: there is something behind its contributions")
    return tuple(contributions)


def contributions_of(content: bytes, kind: FileKind) -> tuple[Contribution, ...]:
    """Of a whole file. Raises `UnfitFile`."""
    return contributions_in(sections_of(content, kind), kind)


def require_contributions(contributions: Sequence[Contribution]) -> None:
    """Raises `UnfitFile` unless there are enough, beacons not counted, under names that can be printed."""
    for contribution in contributions:
        require_printable(contribution.name)
    people = sum(not contribution.is_beacon for contribution in contributions)
    if people < MIN_CONTRIBUTIONS:
        raise UnfitFile(f"has {people} of {MIN_CONTRIBUTIONS} contributions")


def require_ended(contributions: Sequence[Contribution]) -> str:
    """The beacon that ended a phase with enough contributions. Raises `UnfitFile` unless that is so."""
    require_contributions(contributions)
    beacon = contributions[-1].beacon
    if beacon is None:
        raise UnfitFile("was not ended by a beacon")
    return beacon


def require_printable(name: str) -> None:
    """Raises `UnfitFile` for a name that could pass for something else where it is printed, by a new line above all."""
    if not name.isprintable():
        raise UnfitFile(f"has a contributor whose name has control characters in it: {name!r}")


def uncompressed(points: bytes) -> bytes:
    """A G1 or G2 point as the files keep it, as EIP-197 has it: big-endian, the imaginary part first. Not for infinity."""
    values = [
        (int.from_bytes(points[at : at + COORDINATE_BYTES], "little") * _FROM_MONTGOMERY % BASE_FIELD_MODULUS).to_bytes(
            COORDINATE_BYTES, "big"
        )
        for at in range(0, len(points), COORDINATE_BYTES)
    ]
    if len(points) == G2_BYTES:
        values = [values[1], values[0], values[3], values[2]]
    return b"".join(values)


def _contribution(
    kind: FileKind, values: tuple[bytes, ...], type_: int, parameters: Mapping[int, bytes]
) -> Contribution:
    beacon = parameters.get(_BEACON_VALUE)
    if type_ not in (0, _BEACON) or (type_ == _BEACON) != (beacon is not None):
        raise UnfitFile("is damaged: a contribution is of no kind that there is")
    if kind is FileKind.ZKEY:
        *points, before = values
        delta = points[0]
        digest = hashlib.blake2b(b"".join([*map(uncompressed, points), before])).hexdigest()
    else:
        delta, digest = b"", values[-1].hex()
    name = parameters.get(_NAME, b"").decode(errors="replace")
    return Contribution(name=name, digest=digest, beacon=beacon.hex() if beacon is not None else None, delta=delta)


def _parameters(content: bytes, size: int) -> dict[int, bytes]:
    """What is said of a contribution. They stand in order, so each is there once."""
    parameters: dict[int, bytes] = {}
    offset = 0
    while offset < size:
        kind = content[offset]
        if kind not in (_NAME, _ITERATIONS, _BEACON_VALUE) or kind <= max(parameters, default=0):
            raise UnfitFile("is damaged: a contribution says what is not understood")
        start, length = (offset + 1, 1) if kind == _ITERATIONS else (offset + 2, content[offset + 1])
        offset = start + length
        parameters[kind] = content[start:offset]
    if offset != size or len(content) != size:
        raise UnfitFile("is damaged: its contributions are truncated")
    return parameters
