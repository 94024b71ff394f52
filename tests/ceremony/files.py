"""Files of a ceremony that hold contributions and nothing else, whose points are all zero: what is read off their bytes needs no more."""

import struct
from typing import Final

from prover.contributions import FileKind

BEACON: Final = "ab" * 32
POINTS_BYTES: Final = {FileKind.ZKEY: 384, FileKind.PTAU: 1_496}
"""Of one contribution, its hashes with them."""


def packed(kind: FileKind, sections: dict[int, bytes]) -> bytes:
    """A whole file."""
    body = b"".join(struct.pack("<IQ", number, len(content)) + content for number, content in sections.items())
    return kind.encode() + struct.pack("<II", 1, len(sections)) + body


def contributions_section(kind: FileKind, *names: str, beacon: str | None = BEACON) -> bytes:
    """By each of `names`, and then, if there is to be one, the beacon's."""
    everybody = [(name, None) for name in names] + ([("beacon", bytes.fromhex(beacon))] if beacon is not None else [])
    section = (bytes(64) if kind is FileKind.ZKEY else b"") + struct.pack("<I", len(everybody))
    for name, value in everybody:
        said = b"\1" + bytes([len(name.encode())]) + name.encode()
        if value is not None:
            said += b"\2\x0a" + b"\3" + bytes([len(value)]) + value
        section += bytes(POINTS_BYTES[kind]) + struct.pack("<II", int(value is not None), len(said)) + said
    return section


def contributed(kind: FileKind, *names: str, beacon: str | None = None) -> bytes:
    """A file with those contributions."""
    section = contributions_section(kind, *names, beacon=beacon)
    return packed(kind, {10 if kind is FileKind.ZKEY else 7: section})
