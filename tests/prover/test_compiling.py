"""A circuit's constraints as a file: the compiler's own bytes, whole or not at all."""

from pathlib import Path

import groth16py
import pytest

from prover import circuit
from prover.compiling import compile_r1cs
from prover.r1cs import r1cs_sections
from settlement.errors import ProvingKeyMissing
from settlement.shapes import Shape

TINY = Shape(circuit_id=99, bets=4, players=4)


@pytest.fixture(scope="module")
def tiny_r1cs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compiled") / "tiny.r1cs"
    compile_r1cs(TINY, path)
    return path


def test_the_file_is_the_same_every_time_and_alone_in_its_directory(tiny_r1cs: Path, tmp_path: Path) -> None:
    again = tmp_path / "new" / "tiny.r1cs"
    compile_r1cs(TINY, again)
    assert again.read_bytes() == tiny_r1cs.read_bytes()
    assert list(again.parent.iterdir()) == [again]


def test_keys_can_be_made_from_the_file(tiny_r1cs: Path) -> None:
    _, verifying_key = groth16py.setup(str(tiny_r1cs))
    assert verifying_key.n_public == 1


def test_a_file_that_ends_early_or_late_is_refused(tiny_r1cs: Path) -> None:
    content = tiny_r1cs.read_bytes()
    r1cs_sections(content)
    for damaged in (b"", content[:4], content[:11], content[:100], content[:-1], content + b"0", b"zkey" + content[4:]):
        with pytest.raises(ValueError, match="r1cs"):
            r1cs_sections(damaged)


def test_a_circuit_that_does_not_compile_is_named_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "settlement.circom").write_text("template {")
    monkeypatch.setattr(circuit, "CIRCUITS_DIR", tmp_path)
    with pytest.raises(ProvingKeyMissing, match=r"circuit of 4x4 could not be compiled: .*circom"):
        compile_r1cs(TINY, tmp_path / "out" / "tiny.r1cs")
    assert not (tmp_path / "out").exists()


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ProvingKeyMissing, match=r"constraints of 4x4 cannot be written to .*file"):
        compile_r1cs(TINY, tmp_path / "file" / "tiny.r1cs")
