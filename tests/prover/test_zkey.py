"""What can be read off a `.zkey`: damaged files, others' circuits and keys without a ceremony are told apart from ours.

The files here have our circuit's frame and no points: a real ceremony's file stands in tests/ceremony.
"""

import hashlib
import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from prover import importing
from prover.compiling import compile_r1cs
from prover.contributions import FileKind, UnfitFile, contributions_of, uncompressed
from prover.importing import import_ceremony_key
from prover.r1cs import ConstraintSystem, circuit_power, read_constraints
from prover.zkey import G2_GENERATOR, read_zkey, require_fit
from settlement.errors import KeyRefused
from settlement.poseidon import FIELD_MODULUS
from settlement.shapes import SHAPES, Shape
from settlement.verifying_keys import BASE_FIELD_MODULUS
from tests.ceremony.files import contributions_section
from tests.ceremony.files import packed as packed_file

TINY = Shape(circuit_id=99, bets=4, players=4)
MONTGOMERY = pow(2, 512, FIELD_MODULUS)
DELTA = b"\x02" * 128
PATIENCE_SECONDS = 10.0
Sections = dict[int, bytes]


def as_kept(point: bytes) -> bytes:
    """A G2 point of EIP-197 as it stands in a file: each coordinate times R, little-endian, the real part first."""
    values = [
        (int.from_bytes(point[at : at + 32], "big") * pow(2, 256) % BASE_FIELD_MODULUS).to_bytes(32, "little")
        for at in range(0, 128, 32)
    ]
    return b"".join((values[1], values[0], values[3], values[2]))


GENERATOR = as_kept(G2_GENERATOR)


@pytest.fixture(scope="module")
def r1cs(tmp_path_factory: pytest.TempPathFactory) -> ConstraintSystem:
    path = tmp_path_factory.mktemp("circuit") / "tiny.r1cs"
    compile_r1cs(TINY, path)
    return read_constraints(path.read_bytes())


@pytest.fixture
def sections(r1cs: ConstraintSystem) -> Sections:
    """Of a key for the circuit in which every point is zero."""
    wires = r1cs.wire_count
    domain = 1 << circuit_power(r1cs)
    rows = [(0, len(r1cs.constraints) + wire, wire, 1) for wire in range(2)]
    for row, constraint in enumerate(r1cs.constraints):
        for matrix, form in enumerate((constraint.a, constraint.b)):
            rows += [(matrix, row, wire, value) for wire, value in form.items()]
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
        10: contributions_section(FileKind.ZKEY, "first", "second"),
    }


def header(
    wires: int,
    domain: int,
    public_inputs: int = 1,
    delta: bytes = DELTA,
    modulus: int = BASE_FIELD_MODULUS,
    gamma: bytes = GENERATOR,
    delta_1: bytes = bytes(64),
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
        gamma,
        delta_1,
        delta,
    )


def packed(sections: Sections) -> bytes:
    return packed_file(FileKind.ZKEY, sections)


def wires_and_domain(sections: Sections) -> tuple[int, int]:
    return len(sections[5]) // 64, len(sections[9]) // 64


def test_a_key_for_the_circuit_fits(sections: Sections, r1cs: ConstraintSystem) -> None:
    zkey = read_zkey(packed(sections))
    assert [contribution.name for contribution in zkey.contributions] == ["first", "second", "beacon"]
    require_fit(zkey, r1cs)


def test_points_are_told_as_they_stand_on_chain() -> None:
    assert uncompressed(GENERATOR) == G2_GENERATOR


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
    with pytest.raises(UnfitFile, match=said):
        read_zkey(damage(packed(sections)))


@pytest.mark.parametrize("kept_bytes", [0, 3, 11])
def test_a_file_of_a_few_bytes_is_told(sections: Sections, kept_bytes: int) -> None:
    with pytest.raises(UnfitFile, match=r"is no \.zkey file"):
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
        with pytest.raises(UnfitFile, match=said):
            read_zkey(packed({**sections, **change}))


def test_a_key_to_which_nobody_has_contributed_is_refused(sections: Sections, r1cs: ConstraintSystem) -> None:
    wires, domain = wires_and_domain(sections)
    for change in ({2: header(wires, domain, delta=GENERATOR)}, {10: bytes(68)}):
        with pytest.raises(UnfitFile, match="nobody has contributed"):
            require_fit(read_zkey(packed({**sections, **change})), r1cs)


def test_a_key_whose_contributions_are_too_few_not_ended_or_not_its_own_is_refused(
    sections: Sections, r1cs: ConstraintSystem
) -> None:
    wires, domain = wires_and_domain(sections)
    for change, said in (
        ({10: contributions_section(FileKind.ZKEY, "first")}, "has 1 of 2 contributions"),
        ({10: contributions_section(FileKind.ZKEY, "first", "second", beacon=None)}, "was not ended by a beacon"),
        ({10: contributions_section(FileKind.ZKEY, "first\nsecond", "third")}, "has control characters"),
        ({2: header(wires, domain, delta_1=b"\1" * 64)}, "not the one that its last contribution has left"),
        ({2: header(wires, domain, gamma=DELTA)}, "its gamma is not the generator"),
    ):
        with pytest.raises(UnfitFile, match=said):
            require_fit(read_zkey(packed({**sections, **change})), r1cs)


@pytest.mark.parametrize("kind", FileKind)
def test_contributions_that_are_damaged_are_told_wherever_they_are_cut(kind: FileKind) -> None:
    section = contributions_section(kind, "first", "second")
    number = 10 if kind is FileKind.ZKEY else 7
    assert len(contributions_of(packed_file(kind, {number: section}), kind)) == 3
    damaged = [section[:at] for at in range(0, len(section), 7)] + [section + b"\0"]
    # The kind of the last contribution, what is said of it, and how long that is.
    damaged += [
        section[:-at] + bytes([section[-at] ^ 0x55]) + section[len(section) - at + 1 :]
        for at in (52, 48, 44, 36, 34, 33)
    ]
    for content in damaged:
        with pytest.raises(UnfitFile, match="is damaged"):
            contributions_of(packed_file(kind, {number: content}), kind)


def test_a_key_with_a_coefficient_twice_is_refused(sections: Sections, r1cs: ConstraintSystem) -> None:
    count = int.from_bytes(sections[4][:4], "little") + 1
    twice = count.to_bytes(4, "little") + sections[4][4:48] + sections[4][4:]
    with pytest.raises(UnfitFile, match="it has a coefficient twice"):
        require_fit(read_zkey(packed({**sections, 4: twice})), r1cs)


def test_a_key_for_more_public_inputs_is_refused(sections: Sections, r1cs: ConstraintSystem) -> None:
    wires, domain = wires_and_domain(sections)
    change = {2: header(wires, domain, public_inputs=2), 3: bytes(3 * 64), 8: sections[8][64:]}
    with pytest.raises(UnfitFile, match="2 public inputs, ours 1"):
        require_fit(read_zkey(packed({**sections, **change})), r1cs)


def test_a_key_for_more_wires_is_refused(sections: Sections, r1cs: ConstraintSystem) -> None:
    wires, domain = wires_and_domain(sections)
    longer = {kind: sections[kind] + bytes(size) for kind, size in ((5, 64), (6, 64), (7, 128), (8, 64))}
    with pytest.raises(UnfitFile, match=f"{wires + 1} wires in a domain of {domain}, ours has {wires}"):
        require_fit(read_zkey(packed({**sections, **longer, 2: header(wires + 1, domain)})), r1cs)


@pytest.mark.parametrize("position", [4, 8, 12, 20], ids=["matrix", "row", "wire", "value"])
def test_a_key_with_one_other_coefficient_is_refused(sections: Sections, r1cs: ConstraintSystem, position: int) -> None:
    changed = bytearray(sections[4])
    changed[position] ^= 1
    with pytest.raises(UnfitFile, match="its constraints are not ours"):
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


def test_what_is_no_file_is_refused_without_waiting_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    refused: list[str] = []

    def import_what_is_none() -> None:
        for place in (fifo, Path("/dev/zero")):
            with pytest.raises(KeyRefused, match="is no file that holds a key") as refusal:
                import_ceremony_key(tmp_path / "keys", TINY, place, "00" * 32)
            refused.append(str(refusal.value).split()[0])

    # Who waits for a FIFO's writer cannot be interrupted.
    trying = threading.Thread(target=import_what_is_none, daemon=True)
    trying.start()
    trying.join(PATIENCE_SECONDS)
    assert refused == [str(fifo), "/dev/zero"]
    large = tmp_path / "large.zkey"
    large.write_bytes(bytes(101))
    monkeypatch.setattr(importing, "MAX_ZKEY_BYTES", 100)
    with pytest.raises(KeyRefused, match="it has more than 100 bytes"):
        import_ceremony_key(tmp_path / "keys", TINY, large, "00" * 32)


def test_the_trials_cover_every_bit_of_stakes_both_sides_and_are_never_the_same() -> None:
    trials = [importing.random_entries(SHAPES[-1]) for _ in range(2)]
    assert trials[0] != trials[1]
    for entries in trials:
        assert {(entry.guess, entry.outcome) for entry in entries} == {(0, 0), (0, 1), (1, 0), (1, 1)}
        for bit in range(63):
            assert {entry.stake >> bit & 1 for entry in entries} == {0, 1}


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyRefused, match=r"absent\.zkey cannot be read: No such file"):
        import_ceremony_key(tmp_path / "keys", TINY, tmp_path / "absent.zkey", "00" * 32)
