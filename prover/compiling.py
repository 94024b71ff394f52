"""The circuit of one shape as constraints: the `.r1cs` file that a ceremony's set-up starts from and that tests examine.

It is the compiler's own file, byte for byte. groth16py compiles in a temporary directory, which it removes, and goes on to
make keys; so it does that in a process of its own, whose file is kept, and which is ended before it makes any.
"""

import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO, Final

from prover.circuit import include_dirs, main_source
from prover.r1cs import r1cs_sections
from settlement.errors import ProvingKeyMissing
from settlement.shapes import Shape

COMPILE_TIMEOUT_SECONDS: Final = 300.0
"""Over ten times what the largest shape (280x56) takes on two busy cores."""
POLL_SECONDS: Final = 0.01
"""The file is there for over a second even for the smallest shape."""


def compile_r1cs(shape: Shape, path: Path) -> None:
    """Writes the constraints of the circuit for `shape` to `path`, whole or not at all; the same bytes every time.

    Blocks for seconds (1 for 16x8, 3 for 280x56). Raises `ProvingKeyMissing` if the circuit does not compile or `path` cannot
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


def _compiled(shape: Shape) -> bytes:
    with tempfile.TemporaryDirectory(prefix="compiling-") as directory:
        source, said, workplace = (Path(directory) / name for name in ("main.circom", "said", "workplace"))
        source.write_text(main_source(shape))
        workplace.mkdir()
        program = Path(__file__).with_name("compiling_process.py")
        with said.open("wb") as output:
            compiler = subprocess.Popen(
                [sys.executable, program, source, *include_dirs()],
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
