"""Proofs from the prover's encoding into the program's.

Sources: EIP-197 for uncompressed points (big-endian, G2 coordinates with the imaginary part first); agave `bn254`
for compressed ones: the x coordinate, big-endian, whose top bit says that y is the larger of the two square roots,
comparing G2's by the imaginary part first (arkworks `SWFlags`).
"""

from typing import Final

from ledger.layout import PROOF_BYTES
from settlement.verifying_keys import BASE_FIELD_MODULUS

UNCOMPRESSED_PROOF_BYTES: Final = 256
"""A G1 64, B G2 128, C G1 64."""

_COORDINATE_BYTES: Final = 32
_Y_IS_LARGER: Final = 0x80


def compress_proof(proof: bytes) -> bytes:
    """A Groth16 proof of `UNCOMPRESSED_PROOF_BYTES` as the program's `PROOF_BYTES`; raises `ValueError` on another size.

    Whether the points are on their curves is not checked here.
    """
    if len(proof) != UNCOMPRESSED_PROOF_BYTES:
        raise ValueError(f"a proof has {UNCOMPRESSED_PROOF_BYTES} bytes, not {len(proof)}")
    compressed = _compress(proof[:64]) + _compress(proof[64:192]) + _compress(proof[192:])
    assert len(compressed) == PROOF_BYTES
    return compressed


def _compress(point: bytes) -> bytes:
    """x and y of a point, each one coordinate (G1) or two (G2), as x with the sign of y."""
    half = len(point) // 2
    x, y = bytearray(point[:half]), point[half:]
    coordinates = [y[at : at + _COORDINATE_BYTES] for at in range(0, half, _COORDINATE_BYTES)]
    values = [int.from_bytes(coordinate, "big") for coordinate in coordinates]
    if values > [-value % BASE_FIELD_MODULUS for value in values]:
        x[0] |= _Y_IS_LARGER
    return bytes(x)
