"""Reads the verifying key off the head of groth16py's proving key file: the one under which that key's proofs verify.

groth16py 0.2.0 writes "g16pk1" and then arkworks' uncompressed `ProvingKey`, which begins with the verifying key: alpha G1, beta,
gamma, delta G2, and the vector IC of G1, a count (u64) and its points. Coordinates are little-endian, G2's with the real part first;
a point's last byte carries two flags (https://github.com/arkworks-rs/algebra, `ec/src/models/short_weierstrass/serialization_flags.rs`).
"""

from pathlib import Path
from typing import Final

from settlement.verifying_keys import VERIFYING_KEY_BYTES

_MAGIC: Final = b"g16pk1"
_G1_BYTES, _G2_BYTES = 64, 128
_COUNT: Final = (2).to_bytes(8, "little")
"""Of the points of IC: a settlement circuit has one public input."""

_HEAD_BYTES: Final = len(_MAGIC) + VERIFYING_KEY_BYTES + len(_COUNT)
_AT_INFINITY: Final = 1 << 6
_FLAGS: Final = 1 << 7 | _AT_INFINITY
"""Which of the two points of its x it is, and whether it is the point at infinity. No coordinate reaches these bits."""


def embedded_verifying_key(proving_key: Path) -> bytes:
    """The verifying key in a proving key file, as it stands on chain (`encode_verifying_key`).

    Raises `ValueError` if the file does not begin with one for one public input, `OSError` if it cannot be read.
    """
    with proving_key.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    points, counted = len(_MAGIC), len(_MAGIC) + _G1_BYTES + 3 * _G2_BYTES
    if len(head) < _HEAD_BYTES or not head.startswith(_MAGIC) or not head.startswith(_COUNT, counted):
        raise ValueError("it does not begin as a proving key for one public input")
    rest = head[points:counted] + head[counted + len(_COUNT) :]
    encoded = b""
    for size in (_G1_BYTES, _G2_BYTES, _G2_BYTES, _G2_BYTES, _G1_BYTES, _G1_BYTES):
        encoded += _big_endian(rest[:size])
        rest = rest[size:]
    return encoded


def _big_endian(point: bytes) -> bytes:
    """On chain bytes are in the opposite order, and so are the two parts of G2's coordinates: reversing does both."""
    if point[-1] & _AT_INFINITY:
        raise ValueError("a point of its verifying key is at infinity")
    half = len(point) // 2
    x, y = point[:half], point[half:-1] + bytes([point[-1] & ~_FLAGS])
    return x[::-1] + y[::-1]
