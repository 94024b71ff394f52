"""Shows long work as it goes, one line with a bar for each thing that is being done, and where a running stack is."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from embedded.stack import Stack
from operations.provisioning import Progress as Report

REFRESHES_PER_SECOND: Final = 2
"""Of all that is shown: ten, as by default, take a fiftieth of a core from what is shown."""


@contextmanager
def shown_progress(console: Console) -> Generator[Report]:
    """A function that takes what is being done and which part of it (0…1), and shows it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, refresh_per_second=REFRESHES_PER_SECOND) as progress:
        tasks: dict[str, Callable[[float], None]] = {}

        def report(what: str, part: float) -> None:
            if what not in tasks:
                task = progress.add_task(what, total=1.0)
                tasks[what] = lambda done: progress.update(task, completed=done)
            tasks[what](part)

        yield report


def show_stack(console: Console, stack: Stack) -> None:
    """Where the parts of a running stack are."""
    table = Table(title="Croupier is running; Ctrl-C stops it", title_justify="left", show_header=False)
    for row in (
        ("Web UI", stack.web_ui),
        ("Temporal", stack.temporal_address),
        ("Solana RPC", stack.rpc_url),
        ("program", stack.settings.program_id or ""),
        ("journal", stack.settings.journal_url),
        ("circuit keys", ", ".join(f"{key.shape.name} {key.origin.remark}" for key in stack.circuits)),
        ("try", ".venv/bin/python starter.py status"),
    ):
        table.add_row(*row)
    console.print(table)
