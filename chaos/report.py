"""The result of a run, as JSON for machines and as a table for people."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from chaos.checker import Verdict
from chaos.plan import Target, kinds_of_faults


class Report(BaseModel):
    """What was done to the stack, and what the judge says of what came out.

    `longest_heal_seconds`: see `chaos.watching.Healing`. `agreed`: the judge agrees, and all that was planned has happened.
    """

    model_config = ConfigDict(frozen=True)

    seed: int
    acknowledged: int
    settled: int
    lost: int
    settled_twice: int
    never_sent: int
    kills: dict[Target, int]
    faults: dict[str, int]
    longest_heal_seconds: float
    agreed: bool


@dataclass(frozen=True)
class Outcome:
    """A run's report and what only people want to know. `findings`: everything that keeps it from *agreed*, a line each."""

    report: Report
    sent: int
    batches: int
    healed: int
    ended_unasked: dict[str, int]
    findings: Sequence[str]
    seconds: float


def make_report(
    seed: int,
    verdict: Verdict | None,
    acknowledged: int,
    kills: dict[Target, int],
    faults: dict[str, int],
    longest_heal_seconds: float,
    *,
    agreed: bool,
) -> Report:
    """Without a verdict every acknowledged bet counts as lost: nobody has seen it settled."""
    return Report(
        seed=seed,
        acknowledged=verdict.acknowledged if verdict else acknowledged,
        settled=verdict.settled if verdict else 0,
        lost=verdict.lost if verdict else acknowledged,
        settled_twice=verdict.settled_twice if verdict else 0,
        never_sent=verdict.never_sent if verdict else 0,
        kills={target: kills.get(target, 0) for target in Target},
        faults={kind: faults.get(kind, 0) for kind in kinds_of_faults()},
        longest_heal_seconds=round(longest_heal_seconds, 1),
        agreed=agreed,
    )


def show(outcome: Outcome, console: Console) -> None:
    """Prints the table and the verdict."""
    report = outcome.report
    kills = Table(title="Killed with SIGKILL", title_justify="left")
    kills.add_column("process")
    kills.add_column("kills", justify="right")
    for target, count in report.kills.items():
        kills.add_row(target.value.replace("_", " "), str(count))
    kills.add_row("all", str(sum(report.kills.values())), style="bold")
    console.print(kills)

    faults = Table(title="Faults of the ledger", title_justify="left")
    faults.add_column("kind")
    faults.add_column("times", justify="right")
    for kind, count in report.faults.items():
        faults.add_row(kind.replace("_", " "), str(count))
    faults.add_row("all", str(sum(report.faults.values())), style="bold")
    console.print(faults)

    result = Table(title="What came of it", title_justify="left", show_header=False)
    for name, value in (
        ("seed", str(report.seed)),
        ("kills healed", f"{outcome.healed} of {sum(report.kills.values())}"),
        ("longest time to heal", f"{report.longest_heal_seconds:.1f} s"),
        ("ended by themselves, started again", _counted(outcome.ended_unasked)),
        ("bets sent", f"{outcome.sent:,}"),
        ("acknowledged", f"{report.acknowledged:,}"),
        ("settled", f"{report.settled:,} in {outcome.batches:,} batches"),
        ("lost", _wrong(report.lost)),
        ("settled twice", _wrong(report.settled_twice)),
        ("never sent", _wrong(report.never_sent)),
    ):
        result.add_row(name, value)
    console.print(result)
    for finding in outcome.findings:
        console.print(f"✗ {finding}", style="red", markup=False)
    verdict = (
        "[green]Every acknowledged bet is settled exactly once, to the lamport.[/]"
        if report.agreed
        else "[red]It does not agree.[/]"
    )
    console.print(f"{verdict} {outcome.seconds:.0f} s.")


def _counted(ends: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in ends.items()) or "none"


def _wrong(count: int) -> str:
    return "0" if count == 0 else f"[red]{count:,}[/]"
