"""`python -m bench`: measures, shows tables, and writes what was measured as JSON. Needs nothing running."""

import asyncio
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Final

import typer
from pydantic import BaseModel, ConfigDict

from bench import settlement_cost
from bench.settlement_cost import Cost
from commands.running import console, run
from embedded.console import shown_progress
from embedded.json_files import check_writable, write
from settings import VAR

ROOT: Final = Path(__file__).parent.parent
VERSIONS_OF: Final = ("groth16py", "solders")


class Report(BaseModel):
    """What was measured, and of what."""

    model_config = ConfigDict(frozen=True)

    commit: str
    python: str
    versions: dict[str, str]
    settlement_cost: list[Cost]


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the report to this file as JSON.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A few measurements only, in seconds.")] = False,
    keys: Annotated[Path, typer.Option(help="Directory of the proving keys; missing ones are made.")] = VAR
    / "circuits",
) -> None:
    """Measure what Croupier costs, on a local ledger of its own. Without --quick a few minutes."""
    run(_measure(json_file, keys, quick=quick))


async def _measure(json_file: Path | None, keys: Path, *, quick: bool) -> int:
    if json_file is not None:
        await asyncio.to_thread(check_writable, json_file)
    with shown_progress(console) as progress:
        costs = await settlement_cost.measure(keys, progress, quick=quick)
    report = Report(
        commit=await asyncio.to_thread(_commit),
        python=platform.python_version(),
        versions={name: version(name) for name in VERSIONS_OF},
        settlement_cost=costs,
    )
    settlement_cost.show(console, report.settlement_cost)
    console.print(
        f"commit {report.commit}, Python {report.python}, "
        + ", ".join(f"{name} {number}" for name, number in report.versions.items())
    )
    if json_file is not None:
        await asyncio.to_thread(write, report, json_file)
    return 0


def _commit() -> str:
    """What is checked out; says so if there are changes on top of it."""
    command = ("git", "-C", str(ROOT), "describe", "--always", "--dirty=, with changes", "--exclude=*")
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


if __name__ == "__main__":
    sys.exit(typer.run(main))
