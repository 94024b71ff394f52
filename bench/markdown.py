"""`python -m bench.markdown REPORT.json DOCUMENT.md`: writes a report's figures, as tables, between the document's two marks."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.report import FIGURES_OF, Report

BEGIN: Final = "<!-- figures: written by `python -m bench.markdown`, from performance.json -->"
END: Final = "<!-- end of figures -->"

_COMMAND_OF: Final = {figure: f"`--only {part}`" for part, figures in FIGURES_OF.items() for figure in figures}


def figures(report: Report) -> str:
    """What was measured, with the target of each figure that has one, and the command that gives it alone."""
    rows: list[tuple[str, str, str]] = []

    def add(what: str, value: str | float | None, figure: str) -> None:
        if value is not None:
            rows.append((what, value if isinstance(value, str) else f"{value:,}", _COMMAND_OF[figure]))

    add("our prover alone, both cores: bets/s", _by(report.prover_bets_per_s_by_mix), "prover_bets_per_s_by_mix")
    add(
        "snarkjs, one thread, same circuit, key, batch: bets/s",
        report.snarkjs_single_bets_per_s,
        "snarkjs_single_bets_per_s",
    )
    add("snarkjs with workers: bets/s", report.snarkjs_workers_bets_per_s, "snarkjs_workers_bets_per_s")
    add("end to end at saturation, settled: bets/s", _by(report.settled_bets_per_s), "settled_bets_per_s")
    add("its ratio to the prover alone on the same traffic", _by(report.ratio_to_prover), "ratio_to_prover")
    add("intake of one lane, acknowledged: bets/s", report.acknowledged_bets_per_s, "acknowledged_bets_per_s")
    if lone := report.lone_bet_ms:
        add(
            "a lone bet, placement to Confirmed: ms",
            f"p50 {lone.p50:,}, p99 {lone.p99:,}; ours {lone.ours:,}",
            "lone_bet_ms",
        )
        add("where it goes: ms", _by(lone.parts), "lone_bet_ms")
    if load := report.half_load_ms:
        value = f"p50 {load.p50:,}, p95 {load.p95:,}, p99 {load.p99:,}"
        add("half the prover's load, acknowledgement to Confirmed: ms", value, "half_load_ms")
    add("Temporal events a bet, at full batches", _by(report.events_per_bet), "events_per_bet")
    add("billable actions a bet, at full batches", _by(report.actions_per_bet), "actions_per_bet")
    add("history bytes a bet, through updates", report.history_bytes_per_bet, "history_bytes_per_bet")
    add("compute units a bet, full batch", report.compute_units_per_bet, "compute_units_per_bet")
    add("transaction bytes a bet", report.transaction_bytes_per_bet, "transaction_bytes_per_bet")
    add("fee a bet: lamports", report.fee_lamports_per_bet, "fee_lamports_per_bet")
    if growth := report.growth:
        ratios = f"throughput {growth.throughput:,}, memory {growth.memory:,}"
        add("many bets in one go, late over early", ratios, "growth")
        add("journal bytes a bet", growth.journal_bytes_per_bet, "growth")
    marks = [(t.figure, t.bound, f"{t.value:,}", "met" if t.met else "**missed**") for t in report.targets]
    parts = ", ".join(f"{name} {number}" for name, number in report.versions.items())
    quick = "From a run with `--quick`, which is too short for any claim.\n\n" if report.quick else ""
    failed = f"{report.failed_workflow_tasks} failed workflow tasks in all histories." if report.measured.audit else ""
    return (
        f"{quick}{_table(('figure', 'measured', 'command: `make bench ARGS=…`'), rows)}\n\n"
        f"{_table(('target', '', 'measured', ''), marks)}\n\n"
        f"{failed} Commit {report.commit}; {report.machine}; {parts}.\n"
    )


def written_into(document: str, report: Report) -> str:
    """The document with the report's figures between its marks. Raises `ValueError` if it lacks them."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("the document lacks the marks between which figures stand")
    return f"{before}{BEGIN}\n\n{figures(report)}\n{END}{after}"


def _by(values: Mapping[Any, float] | None) -> str | None:
    return None if values is None else ", ".join(f"{name} {value:,}" for name, value in values.items())


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Rewrites the document in place."""
    report_file, document = map(Path, sys.argv[1:])
    report = Report.model_validate_json(report_file.read_text())
    document.write_text(written_into(document.read_text(), report))


if __name__ == "__main__":
    main()
