"""Tells people how a run goes: bars on a terminal, a line from time to time elsewhere, every event in a log."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from chaos.watching import Standing
from embedded.console import shown_progress
from settlement.lifecycle import BatchStatus

LINE_SECONDS: Final = 10.0
"""Between lines where there is no terminal."""


class EventLog:
    """One line for each thing that was done, with the seconds since the run began."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def __call__(self, event: str) -> None:
        with self.file.open("a") as log:
            log.write(f"{self.seconds:7.2f} {event}\n")


@dataclass(frozen=True)
class Situation:
    """What is shown of a run. `phase` in a few words; counts are of so many."""

    phase: str
    kills: int
    of_kills: int
    faults: int
    bets: int
    standing: Standing
    longest_heal_seconds: float

    def line(self) -> str:
        """All of it in one line."""
        standing = self.standing
        on_their_way = ", ".join(
            f"{count} {status.value}"
            for status, count in standing.batches.items()
            if status is not BatchStatus.CONFIRMED
        )
        return (
            f"{self.phase}: {self.kills} of {self.of_kills} kills, {self.faults} faults; {standing.acknowledged:,} of {self.bets:,} bets"
            f" acknowledged, {standing.settled:,} settled in {standing.final} batches ({on_their_way or 'no other'});"
            f" longest time to heal {self.longest_heal_seconds:.1f} s"
        )


Show = Callable[[Situation], None]


@contextmanager
def shown(console: Console, seconds: Callable[[], float]) -> Generator[Show]:
    """A function that shows how things stand. `seconds`: since the run began."""
    if not console.is_terminal:
        yield _lines(console, seconds)
        return
    with shown_progress(console) as progress:

        def show(situation: Situation) -> None:
            standing = situation.standing
            progress("killed", situation.kills / situation.of_kills)
            progress("bets acknowledged", standing.acknowledged / situation.bets)
            progress("bets settled", standing.settled / situation.bets)

        yield show


def _lines(console: Console, seconds: Callable[[], float]) -> Show:
    last: tuple[float, str] = (-LINE_SECONDS, "")

    def show(situation: Situation) -> None:
        nonlocal last
        now = seconds()
        if now - last[0] >= LINE_SECONDS or situation.phase != last[1]:
            console.print(f"{now:4.0f} s {situation.line()}", markup=False, highlight=False, soft_wrap=True)
            last = (now, situation.phase)

    return show
