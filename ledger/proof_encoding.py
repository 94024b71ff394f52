"""Verifying keys and proofs from the prover's encoding into the program's.

Sources: EIP-197 for uncompressed points (big-endian, G2 coordinates with the imaginary part first); agave `bn254`
for compressed ones: the x coordinate, big-endian, whose top bit says that y is the larger of the two square roots,
comparing G2's by the imaginary part first (arkworks `SWFlags`).
"""

import json
from collections.abc import Sequence
from typing import Final

from pydantic import BaseModel, ConfigDict

from ledger.layout import PROOF_BYTES, VERIFYING_KEY_BYTES

BASE_FIELD_MODULUS: Final = 21888242871839275222246405745257275088696311157297823662689037894645226208583
"""q of BN254, the field of its points' coordinates (EIP-196)."""
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


class _VerifyingKey(BaseModel):
    """snarkjs' `verification_key.json`: projective points of decimal strings, G2 coordinates real part first."""

    model_config = ConfigDict(frozen=True)

    vk_alpha_1: list[int]
    vk_beta_2: list[list[int]]
    vk_gamma_2: list[list[int]]
    vk_delta_2: list[list[int]]
    IC: list[list[int]]


def encode_verifying_key(snarkjs_json: str) -> bytes:
    """The verifying key of a circuit with one public input as the program's `VERIFYING_KEY_BYTES`.

    Raises `ValueError` if it is not such a key.
    """
    key = _VerifyingKey.model_validate(json.loads(snarkjs_json))
    if len(key.IC) != 2:
        raise ValueError(f"a settlement circuit has one public input, this key is for {len(key.IC) - 1}")
    encoded = b"".join(
        (
            _g1(key.vk_alpha_1),
            _g2(key.vk_beta_2),
            _g2(key.vk_gamma_2),
            _g2(key.vk_delta_2),
            _g1(key.IC[0]),
            _g1(key.IC[1]),
        )
    )
    assert len(encoded) == VERIFYING_KEY_BYTES
    return encoded


def _g1(point: Sequence[int]) -> bytes:
    x, y, z = point
    if z != 1:
        raise ValueError("a point of the verifying key is at infinity or not affine")
    return _coordinate(x) + _coordinate(y)


def _g2(point: Sequence[Sequence[int]]) -> bytes:
    (x_real, x_imaginary), (y_real, y_imaginary), z = point
    if list(z) != [1, 0]:
        raise ValueError("a point of the verifying key is at infinity or not affine")
    return b"".join(map(_coordinate, (x_imaginary, x_real, y_imaginary, y_real)))


def _coordinate(value: int) -> bytes:
    if not 0 <= value < BASE_FIELD_MODULUS:
        raise ValueError("a coordinate of the verifying key is not a field element")
    return value.to_bytes(_COORDINATE_BYTES, "big")
