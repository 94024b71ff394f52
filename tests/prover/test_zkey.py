"""What can be read off a `.zkey`: damaged files, others' circuits and keys without a ceremony are told apart from ours.

The files here have our circuit's frame and no points: a real ceremony's file stands in tests/ceremony.
"""

import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from prover.compiling import R1CS_CONSTRAINTS, R1CS_HEADER, compile_r1cs, r1cs_sections
from prover.importing import import_ceremony_key
from prover.zkey import UnfitZkey, circuit_power, read_zkey, require_fit
from settlement.errors import KeyRefused
from settlement.poseidon import FIELD_MODULUS
from settlement.shapes import Shape
from settlement.verifying_keys import BASE_FIELD_MODULUS

TINY = Shape(circuit_id=99, bets=4, players=4)
MONTGOMERY = pow(2, 512, FIELD_MODULUS)
GENERATOR, DELTA = b"\x01" * 128, b"\x02" * 128
Sections = dict[int, bytes]


@pytest.fixture(scope="module")
def r1cs(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("circuit") / "tiny.r1cs"
    compile_r1cs(TINY, path)
    return path.read_bytes()


@pytest.fixture
def sections(r1cs: bytes) -> Sections:
    """Of a key for the circuit in which every point is zero."""
    parts = r1cs_sections(r1cs)
    wires = int.from_bytes(parts[R1CS_HEADER][36:40], "little")
    constraints = int.from_bytes(parts[R1CS_HEADER][60:64], "little")
    domain = 1 << circuit_power(r1cs)
    rows = [(0, constraints + wire, wire, 1) for wire in range(2)]
    offset, section = 0, parts[R1CS_CONSTRAINTS]
    for row in range(constraints):
        for matrix in range(3):
            count = int.from_bytes(section[offset : offset + 4], "little")
            offset += 4
            for wire, value in struct.iter_unpack("<I32s", section[offset : offset + 36 * count]):
                if matrix < 2:
                    rows.append((matrix, row, wire, int.from_bytes(value, "little")))
            offset += 36 * count
    coefficients = b"".join(
        struct.pack("<III32s", matrix, row, wire, (value * MONTGOMERY % FIELD_MODULUS).to_bytes(32, "little"))
        for matrix, row, wire, value in rows
    )
    return {
        1: (1).to_bytes(4, "little"),
        2: header(wires=wires, domain=domain),
        3: bytes(2 * 64),
        4: len(rows).to_bytes(4, "little") + coefficients,
        5: bytes(wires * 64),
        6: bytes(wires * 64),
        7: bytes(wires * 128),
        8: bytes((wires - 2) * 64),
        9: bytes(domain * 64),
        10: bytes(64) + (3).to_bytes(4, "little"),
    }


def header(
    wires: int, domain: int, public_inputs: int = 1, delta: bytes = DELTA, modulus: int = BASE_FIELD_MODULUS
) -> bytes:
    return struct.pack(
        "<I32sI32sIII64s64s128s128s64s128s",
        32,
        modulus.to_bytes(32, "little"),
        32,
        FIELD_MODULUS.to_bytes(32, "little"),
        wires,
        public_inputs,
        domain,
        bytes(64),
        bytes(64),
        bytes(128),
        GENERATOR,
        bytes(64),
        delta,
    )


def packed(sections: Sections) -> bytes:
    body = b"".join(struct.pack("<IQ", kind, len(content)) + content for kind, content in sections.items())
    return b"zkey" + struct.pack("<II", 1, len(sections)) + body


def wires_and_domain(sections: Sections) -> tuple[int, int]:
    return len(sections[5]) // 64, len(sections[9]) // 64


def test_a_key_for_the_circuit_fits(sections: Sections, r1cs: bytes) -> None:
    zkey = read_zkey(packed(sections))
    assert zkey.contributions == 3
    require_fit(zkey, r1cs)


def _truncated(content: bytes) -> bytes:
    return content[:-1]


def _cut_in_a_header(content: bytes) -> bytes:
    return content[:20]


def _longer(content: bytes) -> bytes:
    return content + b"\0"


def _of_another_kind(content: bytes) -> bytes:
    return b"ptau" + content[4:]


def _of_another_version(content: bytes) -> bytes:
    return content[:4] + b"\2" + content[5:]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_truncated, "is truncated"),
        (_cut_in_a_header, "is truncated"),
        (_longer, "something behind its end"),
        (_of_another_kind, r"is no \.zkey file"),
        (_of_another_version, "of version 2"),
    ],
)
def test_a_file_that_is_not_a_whole_zkey_is_told(
    sections: Sections, damage: Callable[[bytes], bytes], said: str
) -> None:
    with pytest.raises(UnfitZkey, match=said):
        read_zkey(damage(packed(sections)))


@pytest.mark.parametrize("kept_bytes", [0, 3, 11])
def test_a_file_of_a_few_bytes_is_told(sections: Sections, kept_bytes: int) -> None:
    with pytest.raises(UnfitZkey, match=r"is no \.zkey file"):
        read_zkey(packed(sections)[:kept_bytes])


def test_another_curve_another_scheme_and_sizes_that_disagree_are_told(sections: Sections) -> None:
    wires, domain = wires_and_domain(sections)
    for change, said in (
        ({1: (2).to_bytes(4, "little")}, "no Groth16 key"),
        ({2: header(wires, domain, modulus=BASE_FIELD_MODULUS - 2)}, "not a key over BN254"),
        ({2: header(wires, domain)[:-1]}, "not a key over BN254"),
        ({5: sections[5] + bytes(64)}, "is damaged"),
        ({9: sections[9][64:]}, "is damaged"),
    ):
        with pytest.raises(UnfitZkey, match=said):
            read_zkey(packed({**sections, **change}))


def test_a_key_to_which_nobody_has_contributed_is_refused(sections: Sections, r1cs: bytes) -> None:
    wires, domain = wires_and_domain(sections)
    for change in ({2: header(wires, domain, delta=GENERATOR)}, {10: bytes(68)}):
        with pytest.raises(UnfitZkey, match="nobody has contributed"):
            require_fit(read_zkey(packed({**sections, **change})), r1cs)


def test_a_key_for_more_public_inputs_is_refused(sections: Sections, r1cs: bytes) -> None:
    wires, domain = wires_and_domain(sections)
    change = {2: header(wires, domain, public_inputs=2), 3: bytes(3 * 64), 8: sections[8][64:]}
    with pytest.raises(UnfitZkey, match="2 public inputs, ours 1"):
        require_fit(read_zkey(packed({**sections, **change})), r1cs)


def test_a_key_for_more_wires_is_refused(sections: Sections, r1cs: bytes) -> None:
    wires, domain = wires_and_domain(sections)
    longer = {kind: sections[kind] + bytes(size) for kind, size in ((5, 64), (6, 64), (7, 128), (8, 64))}
    with pytest.raises(UnfitZkey, match=f"{wires + 1} wires in a domain of {domain}, ours has {wires}"):
        require_fit(read_zkey(packed({**sections, **longer, 2: header(wires + 1, domain)})), r1cs)


@pytest.mark.parametrize("position", [4, 8, 12, 20], ids=["matrix", "row", "wire", "value"])
def test_a_key_with_one_other_coefficient_is_refused(sections: Sections, r1cs: bytes, position: int) -> None:
    changed = bytearray(sections[4])
    changed[position] ^= 1
    with pytest.raises(UnfitZkey, match="its constraints are not ours"):
        require_fit(read_zkey(packed({**sections, 4: bytes(changed)})), r1cs)


def test_a_key_whose_points_are_none_is_refused_with_the_digest_that_was_pinned_and_nothing_is_kept(
    sections: Sections, tmp_path: Path
) -> None:
    file = tmp_path / "ceremony.zkey"
    file.write_bytes(packed(sections))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    with pytest.raises(KeyRefused, match=f"has SHA-256 {digest}, not {'00' * 32} as pinned"):
        import_ceremony_key(tmp_path / "keys", TINY, file, "00" * 32)
    with pytest.raises(KeyRefused, match="is no usable key for shape 4x4"):
        import_ceremony_key(tmp_path / "keys", TINY, file, digest)
    assert [path.name for path in (tmp_path / "keys").iterdir()] == [".lock"]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyRefused, match=r"absent\.zkey cannot be read: No such file"):
        import_ceremony_key(tmp_path / "keys", TINY, tmp_path / "absent.zkey", "00" * 32)
