"""Whether anything grows that must not: many bets in one go, and how throughput, memory and the journal stand at the end of them.

Throughput: of the last tenth of the bets that were settled while bets still came, over the first tenth. As many as a tenth are placed
before them and not counted: until the first of all is final, nothing has to be confirmed, and proofs have the machine to themselves.
Memory: of worker and client, the median of the last quarter of that time over that of the second. The first quarter is left out: caches
fill.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from statistics import median
from typing import Final

from pydantic import BaseModel, ConfigDict
from rich.console import Console

from bench import books
from bench.end_to_end import ONE_LANE
from bench.figures import rate_of, split, tenths
from bench.flood import Flood
from bench.settling import Audit, audit, settled
from bench.site import Where, bench_stack
from bench.traffic import Crowd, Mix
from bench.usage import resident_bytes
from operations.provisioning import Progress

BETS: Final = 100_000
QUICK_BETS: Final = 1_600
QUICK_BATCH_BETS: Final = 16
QUICK_IN_FLIGHT: Final = 16
"""Small batches, and few at once: else so few bets would all be placed before the first is settled."""

QUICK_LANE: Final = replace(ONE_LANE, max_batch_bets=QUICK_BATCH_BETS, max_batches_in_flight=QUICK_IN_FLIGHT).quick
PLAYERS: Final = 32
SAMPLE_SECONDS: Final = 1.0
CLIENT: Final = "client"
WORKER: Final = "worker"


class Growth(BaseModel):
    """Throughput and memory as ratios of late over early. `resident_mb`: by process, in the second quarter and in the last.

    `memory`: the greater of worker's and client's. `tenths`: bets a second in each of them, `warm_up` in what came before.
    """

    model_config = ConfigDict(frozen=True)

    bets: int
    seconds: float
    throughput: float
    warm_up: float
    tenths: list[float]
    memory: float
    memory_by_process: dict[str, float]
    resident_mb: dict[str, tuple[float, float]]
    journal_bytes_per_bet: float
    audit: Audit


class _Memory:
    """Samples what processes hold in memory, until it is cancelled."""

    def __init__(self, processes: Mapping[str, int]) -> None:
        self.samples: dict[str, list[tuple[float, int]]] = {name: [] for name in processes}
        self._processes = processes

    async def keep_sampling(self) -> None:
        while True:
            for name, process_id in self._processes.items():
                self.samples[name].append((time.time(), resident_bytes(process_id)))
            await asyncio.sleep(SAMPLE_SECONDS)

    def quarters(self, name: str, start: float, end: float) -> tuple[float, float]:
        """Megabytes held in the second and in the last quarter of the time between."""
        quarter = (end - start) / 4
        spans = ((start + quarter, start + 2 * quarter), (start + 3 * quarter, end))
        second, last = (
            median(held for at, held in self.samples[name] if since <= at <= until) / 1e6 for since, until in spans
        )
        return round(second, 1), round(last, 1)


async def measure(where: Where, progress: Progress, bets: int | None, *, quick: bool) -> Growth:
    """On a stack of its own. `bets`: how many instead of `BETS`. Raises `NotSettled`, `CroupierError`, `ChildFailed`."""
    counted = bets or (QUICK_BETS if quick else BETS)
    warm_up = counted // 10
    crowd = Crowd("growth", Mix.FEW, bets=warm_up + counted, players=PLAYERS)
    flood = Flood()
    lanes = QUICK_LANE if quick else ONE_LANE
    async with bench_stack(where, "growth", lanes, progress) as running:
        await running.fund(crowd.deposits(), progress)
        empty = books.size_bytes(running.journal)
        memory = _Memory(running.process_ids)
        sampling = asyncio.create_task(memory.keep_sampling())
        placing = asyncio.create_task(flood.place(running, crowd.stream()))
        try:
            await settled(running, crowd.bets, placing, lambda part: progress(f"{crowd.bets:,} bets in one go", part))
        finally:
            placing.cancel()
            sampling.cancel()
        journal_bytes = books.size_bytes(running.journal) - empty
        found = await audit(running, crowd.bets)
        batches = books.settled_batches(running.journal)
    assert flood.ended_at is not None
    done = [(batch.confirmed_at, batch.bets) for batch in batches if batch.confirmed_at <= flood.ended_at]
    early, late = split(done, warm_up)
    rates = tenths(late)
    held = {name: memory.quarters(name, flood.began_at, flood.ended_at) for name in memory.samples}
    ratios = {name: round(last / second, 3) for name, (second, last) in held.items()}
    return Growth(
        bets=counted,
        seconds=round(flood.seconds, 1),
        throughput=round(rates[-1] / rates[0], 3),
        warm_up=round(rate_of(early), 1),
        tenths=[round(rate, 1) for rate in rates],
        memory=max(ratios[WORKER], ratios[CLIENT]),
        memory_by_process=ratios,
        resident_mb=held,
        journal_bytes_per_bet=round(journal_bytes / crowd.bets, 1),
        audit=found.model_copy(update={"differences": [*flood.refused, *found.differences]}),
    )


def show(console: Console, growth: Growth) -> None:
    """Ratios, and what they come from."""
    console.print(
        f"{growth.bets:,} bets in one go, in {growth.seconds:,} s: throughput of the last tenth over the first {growth.throughput}; "
        f"journal {growth.journal_bytes_per_bet:,} bytes a bet"
    )
    console.print(
        f"bets a second by tenths: {', '.join(f'{rate:,.0f}' for rate in growth.tenths)}; before them {growth.warm_up:,.0f}"
    )
    for name, (second, last) in growth.resident_mb.items():
        console.print(
            f"memory of {name}: {second:,} MB in the second quarter, {last:,} MB in the last: {growth.memory_by_process[name]}"
        )
