"""The report of a run: its figures under fixed names, the targets and whether they are met, and everything measured in detail.

A target that is missed is told as missed. An error is what makes figures worthless: a bet that was not settled, journal and chain at
odds, a workflow task that failed.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from bench.doors import DoorCosts
from bench.end_to_end import Rates
from bench.growth import Growth
from bench.half_load import HalfLoad
from bench.intake import IntakeRate
from bench.lone_bet import LoneBet
from bench.provers import ProverRates
from bench.settlement_cost import Cost
from bench.settling import Audit, together
from bench.traffic import Mix
from settlement.intake import Door


class Part(StrEnum):
    """What can be measured by itself, in the order in which it is."""

    PROVER = "prover"
    SETTLEMENT_COST = "settlement-cost"
    END_TO_END = "end-to-end"
    INTAKE = "intake"
    LONE_BET = "lone-bet"
    HALF_LOAD = "half-load"
    DOORS = "doors"
    GROWTH = "growth"


FIGURES_OF: Final = {
    Part.PROVER: (
        "prover_bets_per_s",
        "prover_bets_per_s_by_mix",
        "snarkjs_single_bets_per_s",
        "snarkjs_workers_bets_per_s",
    ),
    Part.SETTLEMENT_COST: ("compute_units_per_bet", "transaction_bytes_per_bet", "fee_lamports_per_bet"),
    Part.END_TO_END: ("settled_bets_per_s", "ratio_to_prover"),
    Part.INTAKE: ("acknowledged_bets_per_s",),
    Part.LONE_BET: ("lone_bet_ms",),
    Part.HALF_LOAD: ("half_load_ms",),
    Part.DOORS: ("events_per_bet", "actions_per_bet", "history_bytes_per_bet"),
    Part.GROWTH: ("growth",),
}
"""Which of the report's figures each part gives. `failed_workflow_tasks` is of all parts that run workflows together."""

LEAST_RATIO: Final = 0.6
LEAST_SETTLED_PER_S: Final = {Mix.FEW: 300, Mix.DISTINCT: 150}
LEAST_ACKNOWLEDGED_PER_S: Final = 2_000
MOST_OURS_MS: Final = 1_000
MOST_EVENTS_PER_BET: Final = 0.3
MOST_ACTIONS_PER_BET: Final = 0.15
LEAST_THROUGHPUT: Final = 0.95
MOST_MEMORY: Final = 1.05


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class LoneFigures(_Frozen):
    """`parts`: medians. `ours`: the median of all but window and slots."""

    p50: float
    p99: float
    ours: float
    parts: dict[str, float]


class LoadFigures(_Frozen):
    """From acknowledgement to Confirmed."""

    p50: float
    p95: float
    p99: float


class GrowthFigures(_Frozen):
    """Late over early."""

    throughput: float
    memory: float
    journal_bytes_per_bet: float


class Target(_Frozen):
    """What a figure should be, and whether it is."""

    figure: str
    bound: str
    value: float
    met: bool


class Measured(_Frozen):
    """What the parts have measured; None where one was left out or ended with an error."""

    prover: ProverRates | None = None
    settlement_cost: list[Cost] | None = None
    end_to_end: Rates | None = None
    intake: IntakeRate | None = None
    lone_bet: LoneBet | None = None
    half_load: HalfLoad | None = None
    doors: DoorCosts | None = None
    growth: Growth | None = None

    @property
    def audit(self) -> Audit | None:
        """Of all parts that ran a stack."""
        parts = (self.end_to_end, self.intake, self.lone_bet, self.half_load, self.doors, self.growth)
        audits = [part.audit for part in parts if part is not None]
        return together(audits) if audits else None


class Report(_Frozen):
    """The figures, None where they were not measured. `commands`: by figure, what gives it alone. `quick`: too little for a claim."""

    quick: bool
    commit: str
    machine: str
    versions: dict[str, str]
    prover_bets_per_s: float | None
    prover_bets_per_s_by_mix: dict[Mix, float] | None
    snarkjs_single_bets_per_s: float | None
    snarkjs_workers_bets_per_s: float | None
    settled_bets_per_s: dict[Mix, float] | None
    ratio_to_prover: dict[Mix, float] | None
    acknowledged_bets_per_s: float | None
    failed_workflow_tasks: int | None
    lone_bet_ms: LoneFigures | None
    half_load_ms: LoadFigures | None
    events_per_bet: dict[Door, float] | None
    actions_per_bet: dict[Door, float] | None
    history_bytes_per_bet: float | None
    compute_units_per_bet: float | None
    transaction_bytes_per_bet: float | None
    fee_lamports_per_bet: float | None
    growth: GrowthFigures | None
    commands: dict[str, str]
    targets: list[Target]
    errors: list[str]
    measured: Measured


def report_on(
    measured: Measured, errors: Sequence[str], *, quick: bool, commit: str, machine: str, versions: dict[str, str]
) -> Report:
    """Pure: figures, targets and errors follow from what was measured. `errors`: why parts ended before they had measured anything."""
    audit, doors = measured.audit, measured.doors.doors if measured.doors else None
    rates = measured.end_to_end.mixes if measured.end_to_end else None
    full = (
        max(measured.settlement_cost, key=lambda cost: (cost.bets, cost.players)) if measured.settlement_cost else None
    )
    lone, load, growth = measured.lone_bet, measured.half_load, measured.growth
    return Report(
        quick=quick,
        commit=commit,
        machine=machine,
        versions=versions,
        prover_bets_per_s=measured.prover and measured.prover.by_mix[Mix.FEW],
        prover_bets_per_s_by_mix=measured.prover and measured.prover.by_mix,
        snarkjs_single_bets_per_s=measured.prover and measured.prover.snarkjs_single,
        snarkjs_workers_bets_per_s=measured.prover and measured.prover.snarkjs_workers,
        settled_bets_per_s={rate.mix: rate.settled_bets_per_s for rate in rates} if rates else None,
        ratio_to_prover={rate.mix: rate.ratio for rate in rates} if rates else None,
        acknowledged_bets_per_s=measured.intake and measured.intake.acknowledged_bets_per_s,
        failed_workflow_tasks=audit and sum(audit.failed_workflow_tasks.values()),
        lone_bet_ms=lone and LoneFigures(p50=lone.p50, p99=lone.p99, ours=lone.ours_p50, parts=lone.parts),
        half_load_ms=load and LoadFigures(p50=load.p50, p95=load.p95, p99=load.p99),
        events_per_bet={cost.door: cost.events_per_bet for cost in doors} if doors else None,
        actions_per_bet={cost.door: cost.actions_per_bet for cost in doors} if doors else None,
        history_bytes_per_bet=next(cost.history_bytes_per_bet for cost in doors if cost.door is Door.UPDATE)
        if doors
        else None,
        compute_units_per_bet=full and _per_bet(full.compute_units, full),
        transaction_bytes_per_bet=full and _per_bet(full.transaction_bytes, full),
        fee_lamports_per_bet=full and _per_bet(full.fee_lamports, full),
        growth=growth
        and GrowthFigures(
            throughput=growth.throughput, memory=growth.memory, journal_bytes_per_bet=growth.journal_bytes_per_bet
        ),
        commands={
            figure: f'make bench ARGS="--only {part}"' for part, figures in FIGURES_OF.items() for figure in figures
        },
        targets=targets_of(measured),
        errors=[*errors, *_errors_of(audit)],
        measured=measured,
    )


def targets_of(measured: Measured) -> list[Target]:
    """Those whose figures were measured."""
    found: list[Target] = []

    def at_least(figure: str, bound: float, value: float) -> None:
        found.append(Target(figure=figure, bound=f"at least {bound:,}", value=value, met=value >= bound))

    def at_most(figure: str, bound: float, value: float) -> None:
        found.append(Target(figure=figure, bound=f"at most {bound:,}", value=value, met=value <= bound))

    rates = measured.end_to_end.mixes if measured.end_to_end else []
    settled = {rate.mix: rate.settled_bets_per_s for rate in rates}
    for rate in rates:
        at_least(f"ratio_to_prover, {rate.mix}", LEAST_RATIO, rate.ratio)
    for mix, bound in LEAST_SETTLED_PER_S.items():
        if mix in settled:
            at_least(f"settled_bets_per_s, {mix}", bound, settled[mix])
    if settled.keys() == set(Mix):
        between = settled[Mix.DISTINCT] <= settled[Mix.ZIPF] <= settled[Mix.FEW]
        bound = f"between {Mix.DISTINCT} and {Mix.FEW}"
        found.append(Target(figure="settled_bets_per_s, zipf", bound=bound, value=settled[Mix.ZIPF], met=between))
    if measured.intake:
        at_least("acknowledged_bets_per_s", LEAST_ACKNOWLEDGED_PER_S, measured.intake.acknowledged_bets_per_s)
    if measured.audit:
        at_most("failed_workflow_tasks", 0, sum(measured.audit.failed_workflow_tasks.values()))
    if measured.lone_bet:
        at_most("lone_bet_ms, ours", MOST_OURS_MS, measured.lone_bet.ours_p50)
    for cost in measured.doors.doors if measured.doors else ():
        if cost.door is Door.UPDATE:
            at_most("events_per_bet, update", MOST_EVENTS_PER_BET, cost.events_per_bet)
            at_most("actions_per_bet, update", MOST_ACTIONS_PER_BET, cost.actions_per_bet)
    if measured.growth:
        at_least("growth, throughput", LEAST_THROUGHPUT, measured.growth.throughput)
        at_most("growth, memory", MOST_MEMORY, measured.growth.memory)
    return found


def _errors_of(audit: Audit | None) -> list[str]:
    if audit is None:
        return []
    failed = [f"{count:,} workflow tasks of {why}" for why, count in audit.failed_workflow_tasks.items()]
    return [*audit.differences, *failed]


def _per_bet(amount: int, cost: Cost) -> float:
    return round(amount / cost.bets, 2)


def show(console: Console, report: Report) -> None:
    """Targets, errors, and what was measured."""
    if report.targets:
        table = Table(
            title="Targets" + (" (--quick: too little for a claim)" if report.quick else ""), title_justify="left"
        )
        for heading in ("figure", "target", "measured", ""):
            table.add_column(heading, justify="right" if heading == "measured" else "left")
        for target in report.targets:
            mark = "[green]met[/]" if target.met else "[red]missed[/]"
            table.add_row(target.figure, target.bound, f"{target.value:,}", mark)
        console.print(table)
    audit = report.measured.audit
    if audit is not None:
        console.print(
            f"Searched the histories of {audit.workflow_runs:,} workflow runs: {report.failed_workflow_tasks} failed workflow tasks"
        )
    for error in report.errors:
        console.print(f"✗ {error}", style="red", markup=False)
    console.print(
        f"commit {report.commit}; {report.machine}; "
        + ", ".join(f"{name} {number}" for name, number in report.versions.items()),
        highlight=False,
    )
