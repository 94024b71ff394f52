"""`python -m chaos`: kills everything, again and again, and shows that no bet is lost and none is settled twice. Needs nothing running."""

import asyncio
import random
import sys
import threading
from pathlib import Path
from typing import Annotated, Final

import typer

from chaos.bets import MAX_BETS
from chaos.plan import MIN_KILLS
from chaos.report import show
from chaos.run import Options, Place, run
from client.connection import end_process
from commands import running
from commands.running import console
from embedded.json_files import check_writable, write
from settings import VAR

SECONDS_PER_MINUTE: Final = 60
MAX_SEED: Final = 2**32


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the report to this file as JSON.")] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=MAX_SEED, help="Fixes bets, kills and faults and their instants; else a random one."),
    ] = None,
    kills: Annotated[
        int, typer.Option(min=MIN_KILLS, max=1_000, help="How many processes to kill with SIGKILL.")
    ] = 100,
    bets: Annotated[int, typer.Option(min=100, max=MAX_BETS, help="How many different bets to place.")] = 3_000,
    minutes: Annotated[float, typer.Option(min=1.0, max=120.0, help="The most that the run may take in all.")] = 12.0,
) -> None:
    """Run the whole stack, bet through all doors, and meanwhile kill and break everything; then heal, and hold the chain against what
    clients sent and what was acknowledged to them. Exit status 0 only if every acknowledged bet is settled exactly once.

    The time to heal is from a SIGKILL until the process serves again and, after that, a further batch has become final, as long as
    acknowledged bets wait to be settled; the longest is shown.
    """
    chosen = random.SystemRandom().randrange(MAX_SEED) if seed is None else seed
    options = Options(seed=chosen, kills=kills, bets=bets, minutes=minutes)
    running.run(command(options, Place(VAR / "chaos", VAR / "circuits"), json_file))


async def command(options: Options, place: Place, json_file: Path | None) -> int:
    """Runs and reports; the exit status."""
    if json_file is not None:
        await asyncio.to_thread(check_writable, json_file)
    _end_by_force_after(options.minutes * SECONDS_PER_MINUTE, place)
    console.print(
        f"seed {options.seed}: {options.kills} kills and {options.bets:,} bets, at most {options.minutes:g} minutes, on {place.var}",
        highlight=False,
    )
    outcome = await run(options, place, console)
    show(outcome, console)
    if json_file is not None:
        await asyncio.to_thread(write, outcome.report, json_file)
    return 0 if outcome.report.agreed else 1


def _end_by_force_after(seconds: float, place: Place) -> None:
    """The last resort: its processes end with it."""

    def end() -> None:
        print(f"chaos: ended by force after {seconds:.0f} s; logs are in {place.var / 'log'}", file=sys.stderr)
        end_process(1)

    watchdog = threading.Timer(seconds, end)
    watchdog.daemon = True
    watchdog.start()


if __name__ == "__main__":
    typer.run(main)
