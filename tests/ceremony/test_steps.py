"""A ceremony's steps refuse to be taken in the wrong order or on the wrong files, before anything runs for minutes."""

import json
import re
import sys
from pathlib import Path

import pytest

from ceremony import __main__ as command_line
from ceremony import snarkjs, steps
from ceremony.snarkjs import FOLDER, StepFailed
from prover.compiling import compile_r1cs
from prover.contributions import FileKind
from settlement.shapes import SHAPES
from tests.ceremony.files import BEACON, contributed

SMALL = SHAPES[0]
PTAU, ZKEY = FileKind.PTAU, FileKind.ZKEY
PEOPLE = ("first", "second")
INJECTED = "first\ncontribution #2 second:"
"""A name that passes for two where lines are counted."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a ceremony that has only begun."""
    folder = tmp_path / "ceremony"
    folder.mkdir()
    for name in ("16x8.r1cs", "powers-0.ptau"):
        (folder / name).write_bytes(b"begun")
    return folder


def test_a_ceremony_begins_in_a_folder_of_its_own(folder: Path) -> None:
    with pytest.raises(StepFailed, match=r"is not empty.*name another, or remove this one"):
        steps.begin(SMALL, folder, None)


def test_powers_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match=r"absent\.ptau cannot be taken over: No such file"):
        steps.begin(SMALL, tmp_path / "ceremony", tmp_path / "absent.ptau")
    assert [path.name for path in (tmp_path / "ceremony").iterdir()] == ["16x8.r1cs"]


def test_a_public_phase_1_needs_contributions(tmp_path: Path) -> None:
    powers = tmp_path / "public.ptau"
    powers.write_bytes(contributed(PTAU, "first", beacon=BEACON))
    with pytest.raises(StepFailed, match=r"public\.ptau has 1 of 2 contributions"):
        steps.begin(SMALL, tmp_path / "ceremony", powers)
    assert [path.name for path in (tmp_path / "ceremony").iterdir()] == ["16x8.r1cs"]


@pytest.mark.parametrize("name", ["a\nb", "\x1b[1m", "a\u2028b", "", "a" * 65])
def test_a_name_that_cannot_stand_in_a_line_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(StepFailed, match="is no name to publish"):
        steps.contribute(folder / "powers-0.ptau", name)


@pytest.mark.parametrize("name", ["powers.ptau", "16x8.zkey", "16x8.r1cs", "powers-7.ptau"])
def test_only_a_numbered_file_that_is_there_is_contributed_to(folder: Path, name: str) -> None:
    with pytest.raises(StepFailed, match="is no file to contribute to"):
        steps.contribute(folder / name, "somebody")


def test_a_contribution_is_never_overwritten(folder: Path) -> None:
    (folder / "powers-1.ptau").write_bytes(b"somebody's")
    with pytest.raises(StepFailed, match=r"powers-1\.ptau is there already"):
        steps.contribute(folder / "powers-0.ptau", "somebody else")


def test_a_phase_with_one_contribution_is_not_ended(folder: Path) -> None:
    (folder / "powers-1.ptau").write_bytes(contributed(PTAU, "first"))
    with pytest.raises(StepFailed, match=r"powers-1\.ptau has 1 of 2 contributions"):
        steps.finish(folder, "00")
    (folder / "powers.ptau").write_bytes(contributed(PTAU, *PEOPLE, beacon="00"))
    (folder / "16x8-0.zkey").write_bytes(contributed(ZKEY))
    with pytest.raises(StepFailed, match=r"16x8-0\.zkey has 0 of 2 contributions"):
        steps.finish(folder, "00")


def test_copies_of_a_file_are_no_contributions(folder: Path) -> None:
    for number in range(3):
        (folder / f"powers-{number}.ptau").write_bytes(contributed(PTAU))
    with pytest.raises(StepFailed, match=r"powers-2\.ptau has 0 of 2 contributions"):
        steps.finish(folder, "00")
    for number in range(4):
        (folder / f"powers-{number}.ptau").write_bytes(contributed(PTAU, *PEOPLE))
    with pytest.raises(StepFailed, match=r"powers-3\.ptau holds 2 contributions, not the 3 of its name"):
        steps.finish(folder, "00")


def test_a_phase_that_was_ended_is_not_gone_on_with_under_another_beacon(folder: Path) -> None:
    (folder / "powers.ptau").write_bytes(contributed(PTAU, *PEOPLE, beacon="ab"))
    with pytest.raises(StepFailed, match=r"powers\.ptau was ended by beacon ab, not by cd"):
        steps.finish(folder, "CD")
    (folder / "16x8-0.zkey").write_bytes(contributed(ZKEY))
    (folder / "16x8.zkey").write_bytes(contributed(ZKEY, *PEOPLE, beacon="ab"))
    with pytest.raises(StepFailed, match=r"16x8\.zkey was ended by beacon ab, not by cd"):
        steps.finish(folder, "CD")


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


@pytest.fixture(scope="module")
def circuit(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("circuit") / "16x8.r1cs"
    compile_r1cs(SMALL, path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("powers", "key", "said"),
    [
        (contributed(PTAU, beacon=BEACON), b"", r"powers\.ptau has 0 of 2 contributions"),
        (
            contributed(PTAU, "first", INJECTED),
            b"",
            r"powers\.ptau has a contributor whose name has control characters",
        ),
        (None, contributed(ZKEY, "first", beacon=BEACON), r"16x8\.zkey has 1 of 2 contributions"),
        (None, contributed(ZKEY, INJECTED, beacon=BEACON), r"16x8\.zkey has a contributor whose name has control"),
        (None, contributed(ZKEY, *PEOPLE), r"16x8\.zkey was not ended by a beacon"),
        (None, contributed(ZKEY, *PEOPLE, beacon="cd" * 32), f"was ended by beacon {'cd' * 32}, not by {BEACON}"),
    ],
)
def test_verifying_counts_what_the_files_hold_not_what_is_said_of_them(
    folder: Path, circuit: bytes, powers: bytes | None, key: bytes, said: str
) -> None:
    (folder / "16x8.r1cs").write_bytes(circuit)
    (folder / "powers.ptau").write_bytes(contributed(PTAU, *PEOPLE) if powers is None else powers)
    (folder / "16x8.zkey").write_bytes(key or contributed(ZKEY, *PEOPLE, beacon=BEACON))
    with pytest.raises(StepFailed, match=said):
        steps.verify(folder, BEACON)


def test_a_folder_with_two_circuits_is_told(folder: Path) -> None:
    other = SHAPES[1].name
    (folder / f"{other}.r1cs").write_bytes(b"another")
    with pytest.raises(StepFailed, match=f"holds the circuits of 16x8, {other}, and a ceremony is for one"):
        steps.verify(folder)


@pytest.mark.parametrize("arguments", [("begin", "16x8", "{file}"), ("verify", "{folder}")])
def test_what_the_file_system_refuses_is_one_line(
    folder: Path,
    circuit: bytes,
    arguments: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder / "16x8.r1cs").write_bytes(circuit)
    places = {"file": str(folder / "16x8.r1cs"), "folder": str(folder)}
    monkeypatch.setattr(sys, "argv", ["ceremony", *(argument.format(**places) for argument in arguments)])
    with pytest.raises(SystemExit, match="1"):
        command_line.main()
    assert re.fullmatch(rf"ceremony: {folder}/\S+: (File exists|No such file or directory)\n", capsys.readouterr().err)


@pytest.mark.parametrize(("seconds", "said"), [(snarkjs.INSTALL_TIMEOUT_SECONDS, "exit status"), (0.001, "took over")])
def test_an_installation_that_fails_leaves_nothing_and_names_the_remedy(
    seconds: float, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = tmp_path / "node_modules"
    modules.mkdir()
    # There is nothing to install from: npm fails before it asks anybody.
    monkeypatch.setattr(snarkjs, "FOLDER", tmp_path)
    monkeypatch.setattr(snarkjs, "MODULES", modules)
    monkeypatch.setattr(snarkjs, "INSTALL_TIMEOUT_SECONDS", seconds)
    with pytest.raises(StepFailed, match=f"{said}.*registry"):
        snarkjs.install()
    assert not modules.exists()


def test_make_takes_only_a_finished_installation_for_one() -> None:
    rules = (FOLDER.parent / "Makefile").read_text()
    assert "ceremony/node_modules/.installed:" in rules
    assert not re.search(r"ceremony/node_modules(?!/\.installed)", rules)


def test_what_npm_installs_is_pinned_and_names_no_registry() -> None:
    manifest, lock = (json.loads((FOLDER / name).read_text()) for name in ("package.json", "package-lock.json"))
    assert re.fullmatch(r"\d+\.\d+\.\d+", manifest["dependencies"]["snarkjs"])
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert packages["node_modules/snarkjs"]["version"] == manifest["dependencies"]["snarkjs"]
    assert all(package["integrity"].startswith("sha512-") for package in packages.values())
    assert not any("resolved" in package for package in packages.values())
