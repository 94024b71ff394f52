"""`python -m bench`: measures, shows tables, and writes what was measured as JSON. Needs nothing running."""

import asyncio
import os
import platform
import shlex
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from bench import doors, end_to_end, growth, half_load, intake, lone_bet, provers, report, settlement_cost
from bench.report import Measured, Part, report_on
from bench.site import Where
from bench.versions import commit, versions
from commands.running import console, run
from embedded.console import shown_progress
from embedded.json_files import check_writable, write
from embedded.processes import ChildFailed
from operations.provisioning import Progress
from settings import VAR
from settlement.errors import CroupierError

_SHOW: Final[dict[Part, Callable[[Console, Any], None]]] = {
    Part.PROVER: provers.show,
    Part.SETTLEMENT_COST: settlement_cost.show,
    Part.END_TO_END: end_to_end.show,
    Part.INTAKE: intake.show,
    Part.LONE_BET: lone_bet.show,
    Part.HALF_LOAD: half_load.show,
    Part.DOORS: doors.show,
    Part.GROWTH: growth.show,
}


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the report to this file as JSON.")] = None,
    only: Annotated[list[Part] | None, typer.Option(help="Measure this part only; may be repeated.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small runs: whether it works, not how fast it is.")] = False,
    bets: Annotated[int | None, typer.Option(min=1_000, help=f"Of the growth run, instead of {growth.BETS:,}.")] = None,
    keys: Annotated[Path, typer.Option(help="Directory of the proving keys; missing ones are made.")] = VAR
    / "circuits",
    keep: Annotated[Path | None, typer.Option(help="Leave the stacks' state and logs under this directory.")] = None,
    worker: Annotated[str | None, typer.Option(help="The worker's command, to run it under a profiler.")] = None,
) -> None:
    """Measure how fast Croupier is and what it costs, on stacks of its own. Without --quick nearly half an hour."""
    where = Where(keys, keep) if worker is None else Where(keys, keep, tuple(shlex.split(worker)))
    parts = [part for part in Part if part in (only or Part)]
    run(measure(json_file, parts, where, bets, quick=quick))


async def measure(json_file: Path | None, parts: Sequence[Part], where: Where, bets: int | None, *, quick: bool) -> int:
    if json_file is not None:
        await asyncio.to_thread(check_writable, json_file)
    measured: dict[Part, Any] = {}
    errors: list[str] = []
    for number, part in enumerate(parts, start=1):
        console.print(f"{number} of {len(parts)}: {part}", highlight=False)
        try:
            with shown_progress(console) as progress:
                measured[part] = await _measurement(part, where, progress, bets, quick=quick)
        except (CroupierError, ChildFailed) as error:
            # What the other parts tell is not lost for it.
            errors.append(f"{part}: {error}")
            console.print(f"✗ {errors[-1]}", style="red", markup=False)
        else:
            _SHOW[part](console, measured[part])
    found = report_on(
        Measured.model_validate({part.name.lower(): result for part, result in measured.items()}),
        errors,
        quick=quick,
        commit=await asyncio.to_thread(commit),
        machine=f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()} {platform.release()}",
        versions=await asyncio.to_thread(versions),
    )
    report.show(console, found)
    if json_file is not None:
        await asyncio.to_thread(write, found, json_file)
    return 1 if found.errors else 0


def _measurement(part: Part, where: Where, progress: Progress, bets: int | None, *, quick: bool) -> Awaitable[Any]:
    match part:
        case Part.PROVER:
            return provers.measure(where, progress, quick=quick)
        case Part.SETTLEMENT_COST:
            return settlement_cost.measure(where.keys, progress, quick=quick)
        case Part.END_TO_END:
            return end_to_end.measure(where, progress, quick=quick)
        case Part.INTAKE:
            return intake.measure(where, progress, quick=quick)
        case Part.LONE_BET:
            return lone_bet.measure(where, progress, quick=quick)
        case Part.HALF_LOAD:
            return half_load.measure(where, progress, quick=quick)
        case Part.DOORS:
            return doors.measure(where, progress, quick=quick)
        case Part.GROWTH:
            return growth.measure(where, progress, bets, quick=quick)


if __name__ == "__main__":
    sys.exit(typer.run(main))
