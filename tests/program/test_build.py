"""The build gives the committed bytes, and refuses what the machine would run wrongly."""

import os
from pathlib import Path

import pytest

from program.build import ARTEFACT, FLAGS, BuildError, build, compile_object
from program.linker import LinkError, link, syscall_number


def test_a_rebuild_gives_the_committed_bytes() -> None:
    assert build() == ARTEFACT.read_bytes(), "run `python -m program.build` and commit program/settlement.so"


def test_a_build_needs_no_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    for variable in ("HOME", "XDG_CACHE_HOME", "TMP"):
        monkeypatch.setenv(variable, str(nowhere))
    monkeypatch.delenv("ZIG_GLOBAL_CACHE_DIR", raising=False)
    assert build() == ARTEFACT.read_bytes()
    assert not nowhere.exists()


def test_the_artefact_names_no_path_of_the_machine() -> None:
    assert os.fsencode(Path.cwd()) not in ARTEFACT.read_bytes()


@pytest.mark.parametrize(
    ("name", "number"),
    [("sol_log_", 0x207559BD), ("sol_poseidon", 0xC4947C21), ("sol_alt_bn128_group_op", 0xAE0C318B)],
)
def test_system_calls_are_named_by_their_hash(name: str, number: int) -> None:
    assert syscall_number(name) == number


def source(folder: Path, text: str) -> Path:
    file = folder / "sample.c"
    file.write_text('#include "solana.h"\n' + text)
    return file


def compiled(folder: Path, text: str, flags: tuple[str, ...] = FLAGS) -> bytes:
    quiet = tuple(flag for flag in flags if flag != "-Werror")  # the header's functions stay unused
    return compile_object(source(folder, text), quiet)


def test_32_bit_arithmetic_is_refused(tmp_path: Path) -> None:
    flags = tuple("-mcpu=v3" if flag == "-mcpu=v2" else flag for flag in FLAGS)
    program = "u64 entrypoint(u32 *input) { return (u64)(input[0] * input[1]) >> 3; }"
    link(compiled(tmp_path, program))
    with pytest.raises(LinkError, match="32-bit instruction"):
        link(compiled(tmp_path, program, flags))


def test_a_system_call_off_the_list_is_refused(tmp_path: Path) -> None:
    program = "extern u64 sol_log_(const u8 *, u64); u64 entrypoint(u8 *input) { return sol_log_(input, 1); }"
    with pytest.raises(LinkError, match="sol_log_"):
        link(compiled(tmp_path, program))


def test_writable_data_is_refused(tmp_path: Path) -> None:
    program = "u64 calls = 7; u64 entrypoint(u8 *input) { return calls += input[0]; }"
    with pytest.raises(LinkError, match=r"\.data"):
        link(compiled(tmp_path, program))


def test_a_frame_larger_than_the_machines_is_refused(tmp_path: Path) -> None:
    program = "u64 entrypoint(u8 *input) { u8 local[4100]; sol_memcpy_(local, input, 4100); return local[input[9]]; }"
    lenient = tuple("-bpf-stack-size=8192" if flag == "-bpf-stack-size=4096" else flag for flag in FLAGS)
    with pytest.raises(BuildError):
        compiled(tmp_path, program)
    with pytest.raises(LinkError, match="frame"):
        link(compiled(tmp_path, program, lenient))


def test_an_object_that_hides_its_frame_sizes_is_refused(tmp_path: Path) -> None:
    flags = tuple(flag for flag in FLAGS if flag != "-fstack-size-section")
    with pytest.raises(LinkError, match="frame sizes"):
        link(compiled(tmp_path, "u64 entrypoint(u8 *input) { return input[0]; }", flags))


def test_a_program_without_an_entry_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LinkError, match="entrypoint"):
        link(compiled(tmp_path, "u64 other(u8 *input) { return input[0]; }"))
