"""A ceremony's steps refuse to be taken in the wrong order or on the wrong files, before anything runs for minutes."""

import json
import re
from pathlib import Path

import pytest

from ceremony import steps
from ceremony.snarkjs import FOLDER, StepFailed
from settlement.shapes import SHAPES

SMALL = SHAPES[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a ceremony that has only begun."""
    folder = tmp_path / "ceremony"
    folder.mkdir()
    for name in ("16x8.r1cs", "powers-0.ptau"):
        (folder / name).write_bytes(b"begun")
    return folder


def test_a_ceremony_begins_in_a_folder_of_its_own(folder: Path) -> None:
    with pytest.raises(StepFailed, match="is not empty"):
        steps.begin(SMALL, folder, None)


def test_powers_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match=r"absent\.ptau cannot be taken over: No such file"):
        steps.begin(SMALL, tmp_path / "ceremony", tmp_path / "absent.ptau")
    assert [path.name for path in (tmp_path / "ceremony").iterdir()] == ["16x8.r1cs"]


@pytest.mark.parametrize("name", ["powers.ptau", "16x8.zkey", "16x8.r1cs", "powers-7.ptau"])
def test_only_a_numbered_file_that_is_there_is_contributed_to(folder: Path, name: str) -> None:
    with pytest.raises(StepFailed, match="is no file to contribute to"):
        steps.contribute(folder / name, "somebody")


def test_a_contribution_is_never_overwritten(folder: Path) -> None:
    (folder / "powers-1.ptau").write_bytes(b"somebody's")
    with pytest.raises(StepFailed, match=r"powers-1\.ptau is there already"):
        steps.contribute(folder / "powers-0.ptau", "somebody else")


def test_a_phase_with_one_contribution_is_not_ended(folder: Path) -> None:
    (folder / "powers-1.ptau").write_bytes(b"the first")
    with pytest.raises(StepFailed, match=r"powers-1\.ptau has 1 of 2 contributions"):
        steps.finish(folder, "00")
    for name in ("powers.ptau", "16x8-0.zkey"):
        (folder / name).write_bytes(b"phase 1")
    with pytest.raises(StepFailed, match=r"16x8-0\.zkey has 0 of 2 contributions"):
        steps.finish(folder, "00")


def test_a_ceremony_that_is_over_stays_as_it_is(folder: Path) -> None:
    for name in ("powers.ptau", "16x8-0.zkey", "16x8.zkey", "transcript.txt"):
        (folder / name).write_bytes(b"done")
    with pytest.raises(StepFailed, match="this ceremony is over"):
        steps.finish(folder, "00")


def test_a_circuit_that_is_not_this_releases_is_told_from_its_bytes(folder: Path) -> None:
    (folder / "16x8.zkey").write_bytes(b"done")
    with pytest.raises(StepFailed, match=r"16x8\.r1cs is not this release's circuit of shape 16x8"):
        steps.verify(folder)
    assert not list(folder.glob(".*"))


def test_what_npm_installs_is_pinned_and_names_no_registry() -> None:
    manifest, lock = (json.loads((FOLDER / name).read_text()) for name in ("package.json", "package-lock.json"))
    assert re.fullmatch(r"\d+\.\d+\.\d+", manifest["dependencies"]["snarkjs"])
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert packages["node_modules/snarkjs"]["version"] == manifest["dependencies"]["snarkjs"]
    assert all(package["integrity"].startswith("sha512-") for package in packages.values())
    assert not any("resolved" in package for package in packages.values())
