"""Multiples of points: they are those asked for, of points on the curves."""

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from py_ecc.fields import optimized_bn128_FQ as FQ
from py_ecc.fields import optimized_bn128_FQ2 as FQ2
from py_ecc.optimized_bn128.optimized_curve import b, b2, eq, is_on_curve, multiply
from py_ecc.typing import Optimized_Point3D

from prover import multiplying
from prover.contributions import G1_BYTES, G2_BYTES, uncompressed
from prover.multiplying import multiples
from settlement.poseidon import FIELD_MODULUS

LEFT = [1, 2, 0, 3, FIELD_MODULUS - 1]
RIGHT = [1, 0, FIELD_MODULUS - 5]


def points(kept: bytes, size: int) -> list[bytes]:
    return [kept[at : at + size] for at in range(0, len(kept), size)]


def g1(kept: bytes) -> Optimized_Point3D[FQ]:
    encoded = uncompressed(kept)
    return FQ(int.from_bytes(encoded[:32], "big")), FQ(int.from_bytes(encoded[32:], "big")), FQ.one()


def g2(kept: bytes) -> Optimized_Point3D[FQ2]:
    xi, x, yi, y = (int.from_bytes(uncompressed(kept)[at : at + 32], "big") for at in range(0, 128, 32))
    return FQ2((x, xi)), FQ2((y, yi)), FQ2.one()


def test_the_multiples_are_those_of_one_point_of_each_group() -> None:
    made = multiples(LEFT, RIGHT)
    left, right, right_2 = points(made.left, G1_BYTES), points(made.right, G1_BYTES), points(made.right_2, G2_BYTES)
    assert (len(left), len(right), len(right_2)) == (len(LEFT), len(RIGHT), len(RIGHT))
    first, first_2 = g1(left[0]), g2(right_2[0])
    assert is_on_curve(first, b)
    assert is_on_curve(first_2, b2)
    assert left[0] == right[0], "the same point"
    for found, factors, size in ((left, LEFT, G1_BYTES), (right, RIGHT, G1_BYTES)):
        for point, factor in zip(found, factors, strict=True):
            assert eq(g1(point), multiply(first, factor)) if factor else point == bytes(size)
    for point, factor in zip(right_2, RIGHT, strict=True):
        assert eq(g2(point), multiply(first_2, factor)) if factor else point == bytes(G2_BYTES)


def test_the_points_are_others_every_time() -> None:
    assert multiples([1], [1]).left != multiples([1], [1]).left


def test_what_is_multiplied_by_has_no_name_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a development key that is what nobody may know, and a process that is killed would leave it behind."""
    secret = 0x1234567890ABCDEF << 100
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def run(_program: str, circuit: Path, _products: Path, *, seconds: float, descriptors: Sequence[int]) -> str:
        assert secret.to_bytes(32, "little") in circuit.read_bytes()
        assert [os.fstat(descriptor).st_nlink for descriptor in descriptors] == [0]
        assert [file for file in tmp_path.rglob("*") if file.is_file()] == []
        return f"stopped before {seconds:.0f} s"

    monkeypatch.setattr(multiplying, "run_program", run)
    with pytest.raises(ValueError, match="stopped before 600 s"):
        multiples([secret, 7], [9])


def test_a_library_that_fails_or_writes_something_else_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def writing(content: bytes | None) -> Callable[..., str | None]:
        def run(
            _program: str, _circuit: Path, products: Path, *, seconds: float, descriptors: Sequence[int]
        ) -> str | None:
            assert descriptors
            if content is None:
                return f"it took over {seconds:.0f} s"
            products.write_bytes(content)
            return None

        return run

    for content in (b"", b"g16pk2", b"g16pk1" + bytes(2_000), None):
        monkeypatch.setattr(multiplying, "run_program", writing(content))
        with pytest.raises(ValueError, match=r"it took over 600 s|another layout than that of its release 0\.2\.0"):
            multiples([1], [1])
