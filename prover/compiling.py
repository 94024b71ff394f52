"""The circuit of one shape as constraints: the `.r1cs` file that a ceremony's set-up starts from and that tests examine.

It is the compiler's own file, byte for byte. groth16py compiles in a temporary directory, which it removes, and goes on to
make keys; so the same process that makes development keys is started, its file is kept, and it is ended before it makes any.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO, Final

from prover.circuit import include_dirs, main_source
from settlement.errors import ProvingKeyMissing
from settlement.shapes import Shape

COMPILE_TIMEOUT_SECONDS: Final = 300.0
"""Over ten times what the largest shape (256x32) takes on two busy cores."""
POLL_SECONDS: Final = 0.01
"""The file is there for over a second even for the smallest shape."""

R1CS_VERSION: Final = 1
R1CS_HEADER, R1CS_CONSTRAINTS, R1CS_LABELS = 1, 2, 3
"""The types of the sections that every `.r1cs` has."""
_R1CS_MAGIC: Final = b"r1cs"


def compile_r1cs(shape: Shape, path: Path) -> None:
    """Writes the constraints of the circuit for `shape` to `path`, whole or not at all; the same bytes every time.

    Blocks for seconds (1 for 16x8, 3 for 256x32). Raises `ProvingKeyMissing` if the circuit does not compile or `path` cannot
    be written.
    """
    content = _compiled(shape)
    try:
        r1cs_sections(content)
    except ValueError as error:
        raise _not_compiled(shape, f"the compiler left {error}") from error
    draft = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.write_bytes(content)
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise ProvingKeyMissing(f"the constraints of {shape.name} cannot be written to {path}: {error}") from error


def r1cs_sections(content: bytes) -> Mapping[int, memoryview]:
    """The sections of an `.r1cs` file by type; raises `ValueError` unless it is whole and ends with its last section.

    Format: https://github.com/iden3/r1csfile/blob/master/doc/r1cs_bin_format.md
    """
    if content[:4] != _R1CS_MAGIC or _number(content, 4, 4) != R1CS_VERSION:
        raise ValueError("a file that is no .r1cs of version 1")
    sections: dict[int, memoryview] = {}
    offset = 12
    for _ in range(_number(content, 8, 4)):
        kind, size = _number(content, offset, 4), _number(content, offset + 4, 8)
        offset += 12
        sections[kind] = memoryview(content)[offset : offset + size]
        offset += size
    if offset != len(content) or not {R1CS_HEADER, R1CS_CONSTRAINTS, R1CS_LABELS} <= sections.keys():
        raise ValueError("a truncated or padded .r1cs")
    return sections


def _number(content: bytes, offset: int, size: int) -> int:
    return int.from_bytes(content[offset : offset + size], "little")


def _compiled(shape: Shape) -> bytes:
    with tempfile.TemporaryDirectory(prefix="compiling-") as directory:
        source, said, workplace = (Path(directory) / name for name in ("main.circom", "said", "workplace"))
        source.write_text(main_source(shape))
        workplace.mkdir()
        program = Path(__file__).with_name("setup_process.py")
        keys = [workplace / "proving_key", workplace / "verifying_key"]
        with said.open("wb") as output:
            compiler = subprocess.Popen(
                [sys.executable, program, source, *keys, *include_dirs()],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "TMPDIR": str(workplace)},
            )
        try:
            content = _file_of(compiler, workplace, shape)
        finally:
            compiler.kill()
            compiler.wait()
        if content is None:
            lines = said.read_text(errors="replace").strip().splitlines() or [f"exit status {compiler.returncode}"]
            raise _not_compiled(shape, lines[-1])
        return content


def _file_of(compiler: "subprocess.Popen[bytes]", workplace: Path, shape: Shape) -> bytes | None:
    """What the compiler wrote, complete; None if it ended without a file.

    The file is complete once the directory for the witness code, which is made next, is there. It is opened as soon as it is
    seen: what is open can be read even after it was removed.
    """
    deadline = time.monotonic() + COMPILE_TIMEOUT_SECONDS
    with ExitStack() as files:
        opened: BinaryIO | None = None
        while time.monotonic() < deadline:
            ended = compiler.poll() is not None
            if opened is None:
                with suppress(FileNotFoundError):
                    opened = next(
                        (files.enter_context(path.open("rb")) for path in workplace.glob("*/circuit.r1cs")), None
                    )
            if opened is not None and (ended or any(workplace.glob("*/js"))):
                return opened.read()
            if ended:
                return None
            time.sleep(POLL_SECONDS)
    raise _not_compiled(shape, f"it took over {COMPILE_TIMEOUT_SECONDS:.0f} s")


def _not_compiled(shape: Shape, problem: str) -> ProvingKeyMissing:
    return ProvingKeyMissing(f"the circuit of {shape.name} could not be compiled: {problem}")
