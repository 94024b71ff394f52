"""Arithmetic of measurements: rates, percentiles, steady windows. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from settlement.errors import CroupierError

RAMP_SHARE: Final = 0.2
"""So much of the settled bets is left out at either end of a run: ramp-up and drain."""


class TooShort(CroupierError):
    """A run of which no rate can be told."""


@dataclass(frozen=True)
class Window:
    """A stretch of time, in seconds since the epoch, and what was done in it."""

    start: float
    end: float
    done: int

    @property
    def rate(self) -> float:
        """Per second."""
        return self.done / (self.end - self.start)


def steady_window(done: Sequence[tuple[float, int]], ramp_share: float = RAMP_SHARE) -> Window:
    """The middle of a run. `done`: when how many were done, in order. Raises `TooShort`."""
    total, so_far = sum(count for _, count in done), 0
    start = end = None
    counted = 0
    for at, count in done:
        so_far += count
        if start is None:
            if so_far >= total * ramp_share:
                start = at
            continue
        if so_far > total * (1 - ramp_share) and end is not None:
            break
        end, counted = at, counted + count
    if start is None or end is None or end <= start:
        raise TooShort(f"{len(done)} batches are too few to tell a rate: place more bets")
    return Window(start, end, counted)


def split(done: Sequence[tuple[float, int]], first: int) -> tuple[list[tuple[float, int]], list[tuple[float, int]]]:
    """What was done until `first` were, and the rest, which begins when that ends. `done`: as in `steady_window`. Raises `TooShort`."""
    so_far = 0
    for place, (_, count) in enumerate(done):
        so_far += count
        if so_far >= first:
            return list(done[: place + 1]), list(done[place:])
    raise TooShort(f"of {first} bets {so_far} were done: place more")


def rate_of(done: Sequence[tuple[float, int]]) -> float:
    """Per second, from the first moment on. `done`: as in `steady_window`. Raises `TooShort`."""
    if len(done) < 2 or done[-1][0] <= done[0][0]:
        raise TooShort(f"{len(done)} batches are too few to tell a rate: place more bets")
    return sum(count for _, count in done[1:]) / (done[-1][0] - done[0][0])


def tenths(done: Sequence[tuple[float, int]]) -> list[float]:
    """The rate in each tenth of what was done, in order, from the first moment on. `done`: as in `steady_window`. Raises `TooShort`."""
    total, so_far = sum(count for _, count in done[1:]), 0
    rates: list[float] = []
    start, counted = done[0][0] if done else 0.0, 0
    for at, count in done[1:]:
        so_far, counted = so_far + count, counted + count
        if so_far >= total * (len(rates) + 1) / 10 and at > start:
            rates.append(counted / (at - start))
            start, counted = at, 0
    if len(rates) < 2:
        raise TooShort(f"{len(done)} batches are too few to tell early from late: place more bets")
    return rates


def percentile(values: Sequence[float], percent: float) -> float:
    """By the nearest rank: the least of `values` that `percent` of them do not exceed."""
    if not values:
        raise ValueError("there is no percentile of nothing")
    rank = max(1, -(-len(values) * percent // 100))
    return sorted(values)[int(rank) - 1]
