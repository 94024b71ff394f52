"""Settled bets per second with everything on one machine: real proofs, verified on chain, at saturation, by mix of traffic.

A bet counts as settled when the journal says that its batch is Confirmed, which is at finality; journal and chain are compared in
the end. The rate is that of the steady middle of a run. It is held against the prover's own on the very same traffic, measured in the
same run just before and after with the rest of the stack idle.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from statistics import median
from typing import Final

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from bench import books, prover
from bench.figures import steady_window
from bench.flood import Flood
from bench.settling import Audit, audit, settled, together
from bench.site import BenchStack, Lanes, Where, bench_stack
from bench.traffic import Crowd, Mix
from bench.usage import Usage
from operations.provisioning import Progress
from prover.groth16 import Groth16Prover
from settlement.shapes import SHAPES

ROUNDS: Final = 3
"""Runs of each mix, one after the other; the one of median ratio counts."""

CEILING_ROUNDS: Final = 2
"""Before each run, and as many after it."""

MOST_BETS: Final = max(shape.bets for shape in SHAPES)
MOST_PLAYERS: Final = max(shape.players for shape in SHAPES)

ONE_LANE: Final = Lanes(
    lanes=1,
    max_batch_bets=MOST_BETS,
    max_batch_players=MOST_PLAYERS,
    max_batches_in_flight=32,
    window_seconds=5.0,
)
"""For a few players: some two batches a second, each of which is final some 15 seconds later."""

MANY_LANES: Final = replace(ONE_LANE, lanes=8, max_batches_in_flight=12)
"""For 10,000 players: as many lanes as their lookup tables ask for. All lanes together: some five batches a second."""


@dataclass(frozen=True)
class Plan:
    """The runs of one mix, on a stack of their own: who bets in each, and how many batches the ceiling is taken from."""

    lanes: Lanes
    crowd: Crowd
    ceiling_batches: int

    def crowds(self) -> list[Crowd]:
        """Who bets in each run: the same players, on other bets."""
        return [replace(self.crowd, name=f"{self.crowd.name}-{number}") for number in range(1, ROUNDS + 1)]

    def deposits(self) -> dict[str, int]:
        """What each player needs, in lamports, to bear the loss of all of his bets."""
        needed = Counter[str]()
        for crowd in self.crowds():
            needed.update(crowd.deposits())
        return dict(needed)


FULL: Final = (
    Plan(ONE_LANE, Crowd("few", Mix.FEW, bets=25_000, players=32), ceiling_batches=12),
    Plan(MANY_LANES, Crowd("zipf", Mix.ZIPF, bets=16_000, players=10_000), ceiling_batches=24),
    Plan(MANY_LANES, Crowd("distinct", Mix.DISTINCT, bets=15_000, players=10_000), ceiling_batches=32),
)
TWO_LANES: Final = replace(MANY_LANES, lanes=2)
QUICK: Final = (
    Plan(ONE_LANE.quick, Crowd("few", Mix.FEW, bets=4_000, players=32), ceiling_batches=2),
    Plan(TWO_LANES.quick, Crowd("zipf", Mix.ZIPF, bets=1_200, players=500), ceiling_batches=4),
    Plan(TWO_LANES.quick, Crowd("distinct", Mix.DISTINCT, bets=1_000, players=500), ceiling_batches=4),
)


class MixRate(BaseModel):
    """What one run of a mix of traffic came to. Bets a second but for the `ratio`. `cpu_seconds`: by process, of the whole run.

    `placing_seconds`: until the last bet was acknowledged; `seconds`: until the last was Confirmed.
    """

    model_config = ConfigDict(frozen=True)

    mix: Mix
    bets: int
    players: int
    lanes: int
    batches: int
    bets_per_batch: float
    settled_bets_per_s: float
    ceiling_bets_per_s: float
    ratio: float
    placing_seconds: float
    seconds: float
    cpu_seconds: dict[str, float]


class Rates(BaseModel):
    """`mixes`: of every mix, the run of median ratio. `ratios`: of every run, by mix."""

    model_config = ConfigDict(frozen=True)

    mixes: list[MixRate]
    ratios: dict[Mix, list[float]]
    audit: Audit


async def measure(where: Where, progress: Progress, *, quick: bool) -> Rates:
    """Each mix on a stack of its own. Raises `NotSettled`, `CroupierError`, `ChildFailed`."""
    mixes: list[MixRate] = []
    ratios: dict[Mix, list[float]] = {}
    audits: list[Audit] = []
    for plan in QUICK if quick else FULL:
        rates, found = await _measure(where, plan, progress)
        mixes.append(sorted(rates, key=lambda rate: rate.ratio)[ROUNDS // 2])
        ratios[plan.crowd.mix] = [rate.ratio for rate in rates]
        audits.append(found)
    return Rates(mixes=mixes, ratios=ratios, audit=together(audits))


async def _measure(where: Where, plan: Plan, progress: Progress) -> tuple[list[MixRate], Audit]:
    rates: list[MixRate] = []
    refused: list[str] = []
    so_far = 0
    async with bench_stack(where, f"end-to-end-{plan.crowd.name}", plan.lanes, progress) as running:
        await running.fund(plan.deposits(), progress)
        async with _ceiling(where, plan) as ceiling:
            for crowd in plan.crowds():
                so_far += crowd.bets
                flood = Flood()
                rates.append(await _run(running, crowd, ceiling, flood, so_far, progress))
                refused += flood.refused
        found = await audit(running, so_far)
    return rates, found.model_copy(update={"differences": [*refused, *found.differences]})


async def _run(
    running: BenchStack, crowd: Crowd, ceiling: "_Ceiling", flood: Flood, so_far: int, progress: Progress
) -> MixRate:
    """`so_far`: how many bets will be settled in the end, those of runs before included."""
    name = f"end to end, {crowd.name}"
    ceilings = await ceiling(f"{name}: prover before", progress)
    usage = Usage(running.process_ids)
    placing = asyncio.create_task(flood.place(running, crowd.stream()))
    try:
        await settled(running, so_far, placing, lambda part: progress(name, part))
    finally:
        placing.cancel()
    used = usage.since()
    ceilings += await ceiling(f"{name}: prover after", progress)
    batches = books.settled_batches(running.journal, f"{crowd.name}-")
    rate = steady_window([(batch.confirmed_at, batch.bets) for batch in batches]).rate
    return MixRate(
        mix=crowd.mix,
        bets=crowd.bets,
        players=crowd.players,
        lanes=running.lanes.lanes,
        batches=len(batches),
        bets_per_batch=round(crowd.bets / len(batches), 1),
        settled_bets_per_s=round(rate, 1),
        ceiling_bets_per_s=round(median(ceilings), 1),
        ratio=round(rate / median(ceilings), 3),
        placing_seconds=round(flood.seconds, 1),
        seconds=round(batches[-1].confirmed_at - flood.began_at, 1),
        cpu_seconds=used,
    )


class _Ceiling:
    """The prover alone on the plan's traffic."""

    def __init__(self, groth16: Groth16Prover, plan: Plan) -> None:
        self._groth16 = groth16
        self._batches = prover.statements(plan.crowd, plan.lanes, plan.ceiling_batches)

    async def __call__(self, what: str, progress: Progress) -> list[float]:
        rates: list[float] = []
        for done in range(CEILING_ROUNDS):
            progress(what, done / CEILING_ROUNDS)
            rates.append(await prover.bets_per_second(self._groth16, self._batches))
        progress(what, 1)
        return rates


@asynccontextmanager
async def _ceiling(where: Where, plan: Plan) -> AsyncGenerator[_Ceiling]:
    with closing(Groth16Prover(where.keys, plan.lanes.shapes, prover.THREADS)) as groth16:
        await groth16.load()
        yield _Ceiling(groth16, plan)


def show(console: Console, rates: Rates) -> None:
    """A row for each mix, and what the processes have used."""
    table = Table(title="End to end, at saturation", title_justify="left")
    for heading in (
        "mix",
        "bets",
        "players",
        "lanes",
        "bets a batch",
        "settled/s",
        "prover alone/s",
        "ratio",
        "placing s",
    ):
        table.add_column(heading, justify="left" if heading == "mix" else "right")
    for rate in rates.mixes:
        figures = (rate.bets, rate.players, rate.lanes, rate.bets_per_batch, rate.settled_bets_per_s)
        table.add_row(
            rate.mix,
            *(f"{figure:,}" for figure in (*figures, rate.ceiling_bets_per_s, rate.ratio, rate.placing_seconds)),
        )
    console.print(table)
    for rate in rates.mixes:
        used = ", ".join(f"{name} {seconds:.1f}" for name, seconds in rate.cpu_seconds.items())
        ratios = ", ".join(f"{ratio:.3f}" for ratio in rates.ratios[rate.mix])
        console.print(
            f"{rate.mix}: ratios of all runs {ratios}; all settled after {rate.seconds:.1f} s; CPU seconds: {used};"
            f" {sum(rate.cpu_seconds.values()):.1f} in all"
        )
