"""Keys: development ones made once and marked as unsafe, a ceremony's never overridden by them, none used that is damaged or another's."""

import hashlib
import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import groth16py
import pytest

from prover import circuit, multiplying, witness
from prover import keys as loading
from prover.contributions import UnfitFile
from prover.importing import import_ceremony_key
from prover.keys import check_keys, file_digest, key_files, load_keys, load_verifying_key, origin_in
from prover.making import KeyStage, make_development_keys
from prover.r1cs import ConstraintSystem
from prover.zkey import G2_GENERATOR, read_zkey, require_fit
from settlement.circuits import KeyOrigin
from settlement.errors import KeyRefused, ProvingKeyMissing
from settlement.shapes import Shape
from settlement.verifying_keys import verifying_key_digest
from tests.prover.copying import put_copy

TINY = Shape(circuit_id=99, bets=4, players=4)
JOIN_TIMEOUT_SECONDS = 60.0
LONGER_THAN_ANY_NAME = 300
"""Linux and macOS allow 255 bytes."""


@pytest.fixture(scope="module")
def tiny_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tiny")
    make_development_keys(directory, [TINY])
    return directory


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys of the same circuit from another set-up."""
    directory = tmp_path_factory.mktemp("others")
    make_development_keys(directory, [TINY])
    return directory


@pytest.fixture
def own_keys(tiny_keys: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_keys, tmp_path / "keys")


def test_keys_that_are_there_are_left_as_they_are(own_keys: Path) -> None:
    before = {path.name: path.read_bytes() for path in own_keys.iterdir()}
    stages: list[KeyStage] = []
    make_development_keys(own_keys, [TINY], lambda _shape, stage: stages.append(stage))
    assert stages == [KeyStage.PRESENT]
    assert {path.name: path.read_bytes() for path in own_keys.iterdir()} == before


def test_keys_say_that_they_are_unsafe_for_funds_by_name_and_content(tiny_keys: Path) -> None:
    note = key_files(tiny_keys, TINY).note
    assert "development-unsafe-for-funds" in note.name
    assert json.loads(note.read_text())["origin"] == "development: unsafe for funds"


def test_the_verifying_key_is_named_by_its_digest_and_is_for_one_public_input(tiny_keys: Path) -> None:
    key = load_verifying_key(tiny_keys, TINY)
    assert json.loads(key.text)["nPublic"] == 1
    assert key.sha256 in key_files(tiny_keys, TINY).note.read_text()


@pytest.mark.parametrize("kept_bytes", [0, 6, 100_000])
def test_a_truncated_proving_key_is_refused_with_file_and_remedy(own_keys: Path, kept_bytes: int) -> None:
    path = key_files(own_keys, TINY).proving_key
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(ProvingKeyMissing, match=r"is damaged.*starter.py circuit make 4x4") as refusal:
        load_keys(own_keys, TINY)
    assert str(path) in str(refusal.value)


def test_a_proving_key_with_one_changed_byte_is_refused(own_keys: Path) -> None:
    path = key_files(own_keys, TINY).proving_key
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ProvingKeyMissing, match="is damaged"):
        load_keys(own_keys, TINY)


@pytest.mark.parametrize("damage", ["proving_key", "verifying_key", "witness_program", "note"])
def test_a_missing_or_damaged_file_is_refused(own_keys: Path, damage: str) -> None:
    path: Path = getattr(key_files(own_keys, TINY), damage)
    path.unlink()
    with pytest.raises(ProvingKeyMissing, match="cannot be read"):
        load_keys(own_keys, TINY)
    path.write_bytes(b"{}")
    with pytest.raises(ProvingKeyMissing, match="is damaged"):
        load_keys(own_keys, TINY)


def test_a_damaged_key_is_made_anew_and_what_a_killed_process_left_is_cleared(own_keys: Path) -> None:
    key_files(own_keys, TINY).proving_key.write_bytes(b"half a key")
    abandoned = own_keys / ".making-abandoned"
    abandoned.mkdir()
    stages: list[KeyStage] = []
    make_development_keys(own_keys, [TINY], lambda _shape, stage: stages.append(stage))
    assert stages == [KeyStage.MAKING, KeyStage.MADE]
    assert not abandoned.exists()
    load_keys(own_keys, TINY)


def test_two_that_make_the_same_keys_at_once_make_them_once_and_print_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stages: list[KeyStage] = []

    def make() -> None:
        make_development_keys(tmp_path, [TINY], lambda _shape, stage: stages.append(stage))

    makers = [threading.Thread(target=make) for _ in range(2)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join(JOIN_TIMEOUT_SECONDS)
    assert stages == [KeyStage.MAKING, KeyStage.MADE, KeyStage.PRESENT]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("load", [load_keys, check_keys])
def test_a_proving_key_of_another_set_up_is_refused_naming_both_digests_whatever_the_note_says(
    own_keys: Path, others: Path, load: Callable[[Path, Shape], object]
) -> None:
    files = key_files(own_keys, TINY)
    shutil.copy(key_files(others, TINY).proving_key, files.proving_key)
    note = json.loads(files.note.read_text())
    files.note.write_text(json.dumps({**note, "proving_key_sha256": file_digest(files.proving_key)}))
    with pytest.raises(ProvingKeyMissing, match=r"zkey belongs to verifying key .*circuit make 4x4") as refusal:
        load(own_keys, TINY)
    for keys_dir in (own_keys, others):
        assert load_verifying_key(keys_dir, TINY).sha256 in str(refusal.value)


def test_keys_that_are_replaced_after_the_verifying_key_was_read_are_not_mixed(
    own_keys: Path, others: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def digest_and_then(encoded: bytes) -> str:
        monkeypatch.undo()
        put_copy(own_keys, TINY, of=others)
        return verifying_key_digest(encoded)

    monkeypatch.setattr(loading, "verifying_key_digest", digest_and_then)
    with pytest.raises(ProvingKeyMissing, match="its bytes are not those that were written"):
        load_keys(own_keys, TINY)
    assert load_keys(own_keys, TINY)[0] == load_verifying_key(others, TINY)


def test_a_proving_key_that_is_replaced_after_it_was_checked_is_not_used(
    own_keys: Path, others: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = groth16py.import_zkey
    checked, key = key_files(own_keys, TINY).proving_key.read_bytes(), load_verifying_key(own_keys, TINY)
    used: list[bytes] = []

    def late(path: str) -> tuple[groth16py.ProvingKey, groth16py.VerifyingKey]:
        put_copy(own_keys, TINY, of=others)
        used.append(Path(path).read_bytes())
        return real(path)

    monkeypatch.setattr(groth16py, "import_zkey", late)
    assert load_keys(own_keys, TINY).verifying_key == key
    assert used == [checked]


def test_the_verifying_key_in_a_proving_key_is_the_one_beside_it(tiny_keys: Path) -> None:
    zkey = read_zkey(key_files(tiny_keys, TINY).proving_key.read_bytes())
    assert zkey.verifying_key == load_verifying_key(tiny_keys, TINY).encoded


@pytest.mark.parametrize(
    ("damage", "said"), [(b"", "it is no witness program"), (b"\0", "it is no whole witness program")]
)
@pytest.mark.parametrize("load", [load_keys, check_keys])
def test_a_witness_program_that_is_none_is_refused_with_file_and_remedy_whatever_the_note_says(
    own_keys: Path, load: Callable[[Path, Shape], object], damage: bytes, said: str
) -> None:
    path = key_files(own_keys, TINY).witness_program
    put_program(own_keys, path.read_bytes() + damage if damage else damage)
    with pytest.raises(ProvingKeyMissing, match=rf"is damaged: {said}.*circuit make 4x4") as refusal:
        load(own_keys, TINY)
    assert str(path) in str(refusal.value)


def test_the_witness_program_of_another_circuit_is_refused(own_keys: Path) -> None:
    path = key_files(own_keys, TINY).witness_program
    content, at = path.read_bytes(), len(witness.MAGIC) + 4
    put_program(own_keys, content[:at] + bytes(32) + content[at + 32 :])
    with pytest.raises(ProvingKeyMissing, match=r"witness is for another circuit.*circuit make 4x4"):
        load_keys(own_keys, TINY)


def put_program(keys_dir: Path, content: bytes) -> None:
    """Replaces the witness program, and has the note name it."""
    files = key_files(keys_dir, TINY)
    files.witness_program.write_bytes(content)
    note = json.loads(files.note.read_text())
    files.note.write_text(json.dumps({**note, "witness_program_sha256": file_digest(files.witness_program)}))


@pytest.mark.parametrize("look", [origin_in, check_keys, load_keys])
def test_a_place_where_keys_cannot_be_looked_for_is_named(
    tmp_path: Path, look: Callable[[Path, Shape], object]
) -> None:
    place = tmp_path / ("k" * LONGER_THAN_ANY_NAME)
    with pytest.raises(ProvingKeyMissing, match=r"File name too long.*CROUPIER_CIRCUIT_KEYS") as refusal:
        look(place, TINY)
    assert str(place) in str(refusal.value)


def test_keys_are_not_there_where_there_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert origin_in(tmp_path / "none", TINY) is None
    assert origin_in(tmp_path / "file", TINY) is None


def test_a_changed_circuit_asks_for_another_key(
    tiny_keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = (circuit.CIRCUITS_DIR / "settlement.circom").read_text()
    (tmp_path / "settlement.circom").write_text(source + "\n// changed\n")
    monkeypatch.setattr(circuit, "CIRCUITS_DIR", tmp_path)
    with pytest.raises(ProvingKeyMissing):
        load_keys(tiny_keys, TINY)


def test_each_shape_has_a_key_of_its_own(tiny_keys: Path) -> None:
    wider = TINY.model_copy(update={"bets": 5})
    assert not set(dict(key_files(tiny_keys, wider)).values()) & set(dict(key_files(tiny_keys, TINY)).values())


def test_a_circuit_that_does_not_compile_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "settlement.circom").write_text("template {")
    monkeypatch.setattr(circuit, "CIRCUITS_DIR", tmp_path)
    with pytest.raises(ProvingKeyMissing, match=r"circuit of 4x4 could not be compiled: .*circom"):
        make_development_keys(tmp_path / "keys", [TINY])
    assert not list((tmp_path / "keys").glob("4x4*"))


def test_a_set_up_that_fails_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_program: str, *_files: Path, seconds: float, descriptors: list[int]) -> str:
        assert descriptors
        return f"it took over {seconds:.0f} s"

    monkeypatch.setattr(multiplying, "run_program", fail)
    with pytest.raises(ProvingKeyMissing, match=r"keys of 4x4 could not be made: it took over 600 s"):
        make_development_keys(tmp_path, [TINY])
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_development_key_does_not_pass_for_a_ceremonys(tiny_keys: Path, tmp_path: Path) -> None:
    file = key_files(tiny_keys, TINY).proving_key
    with pytest.raises(KeyRefused, match="is not from a ceremony: its gamma is not the generator"):
        import_ceremony_key(tmp_path, TINY, file, file_digest(file))
    zkey = read_zkey(file.read_bytes())
    with pytest.raises(UnfitFile, match="nobody has contributed"):
        # Whatever its gamma were.
        require_fit(replace(zkey, gamma=G2_GENERATOR), ConstraintSystem([], 0, range(1), range(0)))


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ProvingKeyMissing, match=r"no keys can be kept in .*file"):
        make_development_keys(tmp_path / "file", [TINY])


def take_for_ceremony(keys_dir: Path) -> None:
    """Puts the development key's bytes there again, as if a ceremony had made them."""
    put_copy(keys_dir, TINY, of=keys_dir, origin=KeyOrigin.CEREMONY)


def test_a_ceremonys_key_is_used_alone_and_no_development_key_is_made_beside_it(own_keys: Path) -> None:
    take_for_ceremony(own_keys)
    note = key_files(own_keys, TINY).note
    note.unlink()
    stages: list[KeyStage] = []
    make_development_keys(own_keys, [TINY], lambda _shape, stage: stages.append(stage))
    assert stages == [KeyStage.CEREMONY]
    assert not note.exists()
    key = load_verifying_key(own_keys, TINY)
    digest = file_digest(key_files(own_keys, TINY, KeyOrigin.CEREMONY).proving_key)
    assert (key.origin, key.zkey_sha256) == (KeyOrigin.CEREMONY, digest)
    load_keys(own_keys, TINY)


def test_a_damaged_key_of_a_ceremony_is_not_replaced_by_a_development_key(own_keys: Path) -> None:
    take_for_ceremony(own_keys)
    key_files(own_keys, TINY, KeyOrigin.CEREMONY).proving_key.write_bytes(b"half a key")
    with pytest.raises(ProvingKeyMissing, match=r"is damaged.*circuit import 4x4") as refusal:
        make_development_keys(own_keys, [TINY])
    assert "circuit make" not in str(refusal.value)
    with pytest.raises(ProvingKeyMissing, match="is damaged"):
        load_keys(own_keys, TINY)


def test_no_development_key_is_made_where_an_older_circuit_had_a_ceremonys(own_keys: Path) -> None:
    take_for_ceremony(own_keys)
    note = key_files(own_keys, TINY, KeyOrigin.CEREMONY).note
    note.rename(note.with_name("4x4.0123456789abcdef.ceremony.json"))
    with pytest.raises(ProvingKeyMissing, match=r"4x4\.0123456789abcdef.*another circuit.*move that file away"):
        make_development_keys(own_keys, [TINY])


@pytest.mark.parametrize("change", [{"origin": "ceremony"}, {"shape": "16x8"}, {"verifying_key_sha256": "00" * 32}])
def test_a_note_that_tells_of_another_key_is_refused(own_keys: Path, change: dict[str, str]) -> None:
    note = key_files(own_keys, TINY).note
    note.write_text(json.dumps({**json.loads(note.read_text()), **change}))
    with pytest.raises(ProvingKeyMissing, match="is damaged"):
        load_verifying_key(own_keys, TINY)


def test_the_digest_of_a_key_is_that_of_its_bytes_on_chain(tiny_keys: Path) -> None:
    key = load_verifying_key(tiny_keys, TINY)
    assert len(key.encoded) == 576
    assert key.sha256 == hashlib.sha256(key.encoded).hexdigest()


def test_a_proving_key_over_which_the_library_panics_is_named(own_keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        """What PyO3 makes of a Rust panic."""

    def panic(_path: str) -> None:
        raise PanicException("capacity overflow")

    monkeypatch.setattr(groth16py, "import_zkey", panic)
    with pytest.raises(ProvingKeyMissing, match=r"zkey cannot be loaded \(capacity overflow\)"):
        load_keys(own_keys, TINY)
