"""What was measured: the commit, and the versions of the parts whose speed the figures are."""

import json
import platform
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from ceremony import snarkjs
from ceremony.snarkjs import StepFailed
from embedded.site import BIN, ROOT

PACKAGES: Final = ("temporalio", "groth16py", "solders", "pydantic", "sqlalchemy")
UNKNOWN: Final = "unknown"


def commit() -> str:
    """What is checked out; says so if there are changes on top of it."""
    return _said("git", "-C", str(ROOT), "describe", "--always", "--dirty=, with changes", "--exclude=*")


def versions() -> dict[str, str]:
    """Of every part; those that are not installed are left out."""
    found = {"python": platform.python_version(), "temporal": _said(BIN / "temporal", "--version")}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    package_json = snarkjs.MODULES / "snarkjs" / "package.json"
    if package_json.exists():
        found["snarkjs"] = json.loads(package_json.read_text())["version"]
    with suppress(StepFailed):
        found["node"] = _said(snarkjs.node(), "--version")
    return found


def _said(*command: str | Path) -> str:
    said = _run(command)
    return said.splitlines()[0] if said else UNKNOWN


def _run(command: Sequence[str | Path]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
