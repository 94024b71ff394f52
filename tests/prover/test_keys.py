"""Development keys: made once, sealed, marked as unsafe, and never used when damaged or made for another circuit."""

import json
import shutil
import threading
from pathlib import Path

import pytest

from prover import circuit
from prover.keys import KeyStage, key_files, load_proving_key, load_verifying_key, make_development_keys
from settlement.errors import ProvingKeyMissing
from settlement.shapes import Shape

TINY = Shape(circuit_id=99, bets=4, players=4)
JOIN_TIMEOUT_SECONDS = 60.0


@pytest.fixture(scope="module")
def tiny_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tiny")
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
    with pytest.raises(ProvingKeyMissing, match=r"is damaged.*python -m prover") as refusal:
        load_proving_key(own_keys, TINY)
    assert str(path) in str(refusal.value)


def test_a_proving_key_with_one_changed_byte_is_refused(own_keys: Path) -> None:
    path = key_files(own_keys, TINY).proving_key
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ProvingKeyMissing, match="is damaged"):
        load_proving_key(own_keys, TINY)


@pytest.mark.parametrize("damage", ["proving_key", "verifying_key", "note"])
def test_a_missing_or_damaged_file_is_refused(own_keys: Path, damage: str) -> None:
    path: Path = getattr(key_files(own_keys, TINY), damage)
    path.unlink()
    with pytest.raises(ProvingKeyMissing, match="cannot be read"):
        (load_verifying_key if damage == "verifying_key" else load_proving_key)(own_keys, TINY)
    path.write_bytes(b"{}")
    with pytest.raises(ProvingKeyMissing, match="is damaged"):
        (load_verifying_key if damage == "verifying_key" else load_proving_key)(own_keys, TINY)


def test_a_damaged_key_is_made_anew_and_what_a_killed_process_left_is_cleared(own_keys: Path) -> None:
    key_files(own_keys, TINY).proving_key.write_bytes(b"half a key")
    abandoned = own_keys / ".making-abandoned"
    abandoned.mkdir()
    stages: list[KeyStage] = []
    make_development_keys(own_keys, [TINY], lambda _shape, stage: stages.append(stage))
    assert stages == [KeyStage.MAKING, KeyStage.MADE]
    assert not abandoned.exists()
    load_proving_key(own_keys, TINY)


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


def test_a_changed_circuit_asks_for_another_key(
    tiny_keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = (circuit.CIRCUITS_DIR / "settlement.circom").read_text()
    (tmp_path / "settlement.circom").write_text(source.replace("PAIR_BITS = 80", "PAIR_BITS = 81"))
    monkeypatch.setattr(circuit, "CIRCUITS_DIR", tmp_path)
    with pytest.raises(ProvingKeyMissing):
        load_proving_key(tiny_keys, TINY)


def test_each_shape_has_a_key_of_its_own(tiny_keys: Path) -> None:
    wider = TINY.model_copy(update={"bets": 5})
    assert not set(dict(key_files(tiny_keys, wider)).values()) & set(dict(key_files(tiny_keys, TINY)).values())


def test_a_circuit_that_does_not_compile_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "settlement.circom").write_text("template {")
    monkeypatch.setattr(circuit, "CIRCUITS_DIR", tmp_path)
    with pytest.raises(ProvingKeyMissing, match=r"keys of 4x4 could not be made: .*circom"):
        make_development_keys(tmp_path / "keys", [TINY])
    assert not list((tmp_path / "keys").glob("4x4*"))


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ProvingKeyMissing, match=r"no keys can be kept in .*file"):
        make_development_keys(tmp_path / "file", [TINY])
