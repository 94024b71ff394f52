"""Runs this package's programs in processes of their own: groth16py prints, holds the interpreter's lock, and may panic."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def run_program(
    name: str, *arguments: Path, seconds: float, stdin: str = "", descriptors: Sequence[int] = ()
) -> str | None:
    """Runs the file `name` of this package to its end. None if it succeeded, else the last line that it said.

    `descriptors`: of this process's, those that it has too.
    """
    command = [sys.executable, Path(__file__).with_name(name), *arguments]
    try:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
            pass_fds=descriptors,
        )
    except subprocess.TimeoutExpired:
        return f"it took over {seconds:.0f} s"
    if done.returncode == 0:
        return None
    return (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()[-1]
