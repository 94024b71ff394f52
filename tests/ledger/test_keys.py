"""Key files: every way in which one can be wrong is one line that names it and the remedy."""

import json
import stat
from pathlib import Path

import pytest
from solders.keypair import Keypair

from ledger.keys import KeyFileError, create_keypair, load_keypair, load_or_create_keypair


def key_file(folder: Path, content: str, mode: int = 0o600) -> Path:
    path = folder / "key.json"
    path.write_text(content)
    path.chmod(mode)
    return path


def test_a_key_as_solana_keygen_writes_it_is_read(tmp_path: Path) -> None:
    keypair = Keypair()
    assert load_keypair(key_file(tmp_path, keypair.to_json())) == keypair


def test_a_created_key_is_read_back_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "authority.json"
    keypair = create_keypair(path)
    assert load_keypair(path) == keypair
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    keypair = create_keypair(path)
    with pytest.raises(KeyFileError, match="exists already"):
        create_keypair(path)
    assert load_keypair(path) == keypair
    assert list(tmp_path.iterdir()) == [path]


def test_a_key_is_made_only_where_there_is_none(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    made = load_or_create_keypair(path)
    assert load_or_create_keypair(path) == made
    with pytest.raises(KeyFileError, match="does not hold a key"):
        load_or_create_keypair(key_file(tmp_path, "damaged"))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_key_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    path = key_file(tmp_path, Keypair().to_json(), mode)
    with pytest.raises(KeyFileError, match=f"run `chmod 600 {path}`"):
        load_keypair(path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[]",
        "not json",
        json.dumps([0] * 64),
        json.dumps([1] * 63),
        json.dumps([1] * 65),
        json.dumps([256] * 64),
        json.dumps([-1] * 64),
        json.dumps(["1"] * 64),
        "[" * 5_000,
        str(Keypair.from_seed(bytes(32))),
        json.dumps([*bytes(Keypair.from_seed(bytes(32)))[:32], *bytes(Keypair.from_seed(b"1" * 32))[32:]]),
    ],
)
def test_what_is_not_a_key_is_refused_without_being_shown(tmp_path: Path, content: str) -> None:
    path = key_file(tmp_path, content)
    with pytest.raises(KeyFileError, match="does not hold a key") as error:
        load_keypair(path)
    assert str(path) in str(error.value)
    assert not content or content not in str(error.value)
    assert error.value.__cause__ is None


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"absent\.json does not exist"):
        load_keypair(tmp_path / "absent.json")
    with pytest.raises(KeyFileError, match=r"cannot be read: Is a directory"):
        load_keypair(tmp_path)
    with pytest.raises(KeyFileError, match="cannot be written"):
        create_keypair(key_file(tmp_path, "") / "key.json")
