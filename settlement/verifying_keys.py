"""A verifying key as it stands on chain, from snarkjs' JSON, and the one digest that names it everywhere.

The SHA-256 is over the bytes that the program holds, so an auditor can compute it from the account, without our tools.

Sources: EIP-197 for uncompressed points (big-endian, G2 coordinates with the imaginary part first); `program/state.h`.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Final

from pydantic import BaseModel, ConfigDict

BASE_FIELD_MODULUS: Final = 21888242871839275222246405745257275088696311157297823662689037894645226208583
"""q of BN254, the field of its points' coordinates (EIP-196)."""
VERIFYING_KEY_BYTES: Final = 576
"""alpha G1 64, beta G2 128, gamma G2 128, delta G2 128, IC0 G1 64, IC1 G1 64."""

_COORDINATE_BYTES: Final = 32


def verifying_key_digest(encoded: bytes) -> str:
    """Names a verifying key (`encode_verifying_key`): 64 hex digits."""
    return hashlib.sha256(encoded).hexdigest()


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
