"""Builds `program/settlement.so` from `program/settlement.c`: compile with zig's clang, link with `program.linker`.

The same sources must give the same bytes on every machine: the compiler is pinned by version, and nothing of the
environment (paths, home, time) may reach it.

    python -m program.build
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from program.linker import LinkError, link

FOLDER: Final = Path(__file__).resolve().parent
SOURCE: Final = FOLDER / "settlement.c"
ARTEFACT: Final = FOLDER / "settlement.so"
COMPILER_VERSION: Final = "0.17.1"
"""Of the package `ziglang`, which carries clang 22."""

FLAGS: Final = (
    "-target",
    "bpfel-freestanding",
    "-mcpu=v2",  # from v3 on clang emits 32-bit arithmetic, which sBPF computes differently
    "-O2",
    "-std=c11",
    "-ffreestanding",
    "-fno-builtin",
    "-fno-strict-aliasing",  # accounts and data are bytes, read as integers
    "-nostdlib",
    "-fno-stack-protector",
    "-fno-jump-tables",
    "-fno-asynchronous-unwind-tables",
    "-fno-unwind-tables",
    "-fno-unroll-loops",
    "-fstack-size-section",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-mllvm",
    "-bpf-stack-size=4096",
)


class BuildError(Exception):
    """The program cannot be built; the text says why and what to do."""


def build(source: Path = SOURCE) -> bytes:
    """The program's ELF file. Raises `BuildError` (compiler missing or complaining) or `LinkError`."""
    return link(compile_object(source))


def compile_object(source: Path, flags: Sequence[str] = FLAGS) -> bytes:
    """The BPF object of a C file, which may include the program's headers. Raises `BuildError`."""
    if (found := version("ziglang")) != COMPILER_VERSION:
        raise BuildError(f"ziglang {COMPILER_VERSION} is needed to build the same bytes, not {found}")
    with tempfile.TemporaryDirectory(prefix="croupier-program-") as name:
        folder = Path(name)
        # Zig writes caches; in a folder of their own, a build depends on no home and leaves nothing behind.
        environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": name, "ZIG_LOCAL_CACHE_DIR": name}
        for file in [source, *FOLDER.glob("*.h")]:
            shutil.copy(file, folder)
        command = [sys.executable, "-m", "ziglang", "cc", *flags, "-c", source.name, "-o", "program.o"]
        finished = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if finished.returncode != 0:
            raise BuildError(f"the compiler refuses {source.name}:\n{finished.stderr.strip()}")
        return (folder / "program.o").read_bytes()


def main() -> int:
    try:
        program = build()
    except (BuildError, LinkError) as error:
        print(f"program: {error}", file=sys.stderr)
        return 1
    ARTEFACT.write_bytes(program)
    print(f"{ARTEFACT.name}: {len(program)} bytes, sha256 {hashlib.sha256(program).hexdigest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
