"""The report has the figures that it is asked for, says which targets are missed, and claims nothing where something went wrong."""

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import cast

import pytest

from bench import __main__ as command
from bench import settling
from bench.doors import DoorCost, DoorCosts
from bench.end_to_end import MixRate, Rates
from bench.growth import Growth
from bench.half_load import HalfLoad
from bench.intake import IntakeRate
from bench.lone_bet import LoneBet
from bench.markdown import BEGIN, END, written_into
from bench.provers import ProverRates
from bench.report import FIGURES_OF, Measured, Part, Report, Target, report_on
from bench.settlement_cost import Cost
from bench.settling import Audit, NotSettled
from bench.site import BenchStack, Where
from bench.traffic import Mix
from settlement.intake import Door

SOUND = Audit(workflow_runs=3, failed_workflow_tasks={}, differences=[])


def rate(mix: Mix, settled: float, ratio: float) -> MixRate:
    return MixRate(
        mix=mix,
        bets=1_000,
        players=10,
        lanes=1,
        batches=4,
        bets_per_batch=250,
        settled_bets_per_s=settled,
        ceiling_bets_per_s=settled / ratio,
        ratio=ratio,
        placing_seconds=1,
        seconds=2,
        cpu_seconds={"worker": 1.5},
    )


def measured(audit: Audit = SOUND) -> Measured:
    costs = {Door.UPDATE: (0.29, 0.14), Door.SIGNAL: (1.3, 1.1), Door.WORKFLOW: (20, 8)}
    return Measured(
        prover=ProverRates(
            rounds=3,
            threads=2,
            by_mix={Mix.FEW: 700, Mix.ZIPF: 400, Mix.DISTINCT: 450},
            shape="280x56",
            bets=280,
            snarkjs_single=80,
            snarkjs_workers=140,
        ),
        settlement_cost=[
            Cost(
                shape="280x56",
                bets=280,
                players=players,
                compute_units=140_000,
                transaction_bytes=1_120,
                tables=1,
                fee_lamports=5_600,
            )
            for players in (20, 56)
        ],
        end_to_end=Rates(
            mixes=[rate(Mix.FEW, 450, 0.65), rate(Mix.ZIPF, 250, 0.62), rate(Mix.DISTINCT, 140, 0.55)],
            ratios={Mix.FEW: [0.65, 0.7, 0.6], Mix.ZIPF: [0.61, 0.62, 0.63], Mix.DISTINCT: [0.55, 0.5, 0.6]},
            audit=SOUND,
        ),
        intake=IntakeRate(bets=25_000, seconds=10, acknowledged_bets_per_s=2_500, audit=audit),
        lone_bet=LoneBet(
            bets=100,
            p50=2_500,
            p99=2_900,
            ours_p50=700,
            parts={"window": 200, "slots": 1_600},
            window_seconds=0.2,
            slot_ms=50,
            audit=SOUND,
        ),
        half_load=HalfLoad(
            bets=9_000,
            arrivals_per_s=350,
            p50=15_000,
            p95=18_000,
            p99=19_000,
            window_seconds=5,
            slot_ms=400,
            audit=SOUND,
        ),
        doors=DoorCosts(
            doors=[
                DoorCost(
                    door=door,
                    bets=2_800,
                    batches=10,
                    events_per_bet=events,
                    actions_per_bet=actions,
                    history_bytes_per_bet=500,
                    actions={},
                )
                for door, (events, actions) in costs.items()
            ],
            audit=SOUND,
        ),
        growth=Growth(
            bets=100_000,
            seconds=300,
            throughput=0.97,
            warm_up=600,
            tenths=[550.0] * 10,
            memory=1.08,
            memory_by_process={"worker": 1.08, "client": 1.0},
            resident_mb={"worker": (200, 216), "client": (100, 100)},
            journal_bytes_per_bet=420,
            audit=SOUND,
        ),
    )


def report(parts: Measured, errors: list[str] | None = None) -> Report:
    return report_on(parts, errors or [], quick=False, commit="abc", machine="2 cores", versions={"python": "3.11"})


def test_the_report_has_every_figure_under_its_name() -> None:
    written = json.loads(report(measured()).model_dump_json())
    assert written["prover_bets_per_s"] == 700
    assert (written["snarkjs_single_bets_per_s"], written["snarkjs_workers_bets_per_s"]) == (80, 140)
    assert written["settled_bets_per_s"] == {"few": 450, "zipf": 250, "distinct": 140}
    assert written["ratio_to_prover"] == {"few": 0.65, "zipf": 0.62, "distinct": 0.55}
    assert (written["acknowledged_bets_per_s"], written["failed_workflow_tasks"]) == (2_500, 0)
    assert written["lone_bet_ms"] == {
        "p50": 2_500,
        "p99": 2_900,
        "ours": 700,
        "parts": {"window": 200, "slots": 1_600},
    }
    assert written["half_load_ms"] == {"p50": 15_000, "p95": 18_000, "p99": 19_000}
    assert written["events_per_bet"] == {"update": 0.29, "signal": 1.3, "workflow": 20}
    assert written["actions_per_bet"] == {"update": 0.14, "signal": 1.1, "workflow": 8}
    assert written["history_bytes_per_bet"] == 500
    assert (written["compute_units_per_bet"], written["transaction_bytes_per_bet"]) == (500, 4)
    assert written["fee_lamports_per_bet"] == 20
    assert written["growth"] == {"throughput": 0.97, "memory": 1.08, "journal_bytes_per_bet": 420}
    figures = {figure for part in FIGURES_OF.values() for figure in part}
    assert figures < written.keys()
    assert written["commands"].keys() == figures


def test_figures_that_were_not_measured_are_null_and_have_no_target() -> None:
    nothing = json.loads(report(Measured()).model_dump_json())
    assert [nothing[figure] for figures in FIGURES_OF.values() for figure in figures] == [None] * 16
    assert nothing["failed_workflow_tasks"] is None
    assert nothing["targets"] == []


def test_a_target_that_is_missed_is_told_as_missed_and_is_no_error() -> None:
    found = report(measured())
    missed = {target.figure for target in found.targets if not target.met}
    assert missed == {"ratio_to_prover, distinct", "settled_bets_per_s, distinct", "growth, memory"}
    assert len(found.targets) == 13
    assert Target(figure="events_per_bet, update", bound="at most 0.3", value=0.29, met=True) in found.targets
    assert not found.errors


def test_differences_and_failed_workflow_tasks_are_errors() -> None:
    unsound = Audit(
        workflow_runs=1, failed_workflow_tasks={"batcher-0: timed out": 2}, differences=["journal 5, chain 4"]
    )
    found = report(measured(unsound), ["growth: it broke"])
    assert found.failed_workflow_tasks == 2
    assert found.errors == ["growth: it broke", "journal 5, chain 4", "2 workflow tasks of batcher-0: timed out"]
    assert not next(target.met for target in found.targets if target.figure == "failed_workflow_tasks")


def test_a_part_that_ends_with_an_error_gives_no_figure_and_the_command_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def measurement(part: Part, *_: object, **__: object) -> object:
        if part is Part.END_TO_END:
            raise NotSettled("of 100 bets 99 were settled")
        return measured().intake

    monkeypatch.setattr(command, "_measurement", measurement)
    file = tmp_path / "report.json"
    parts = (Part.END_TO_END, Part.INTAKE)
    status = asyncio.run(command.measure(file, parts, Where(tmp_path), None, quick=True))
    written = json.loads(file.read_text())
    assert status == 1
    assert written["errors"] == ["end-to-end: of 100 bets 99 were settled"]
    assert (written["settled_bets_per_s"], written["acknowledged_bets_per_s"]) == (None, 2_500)


async def test_a_bet_that_is_not_settled_ends_the_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Running:
        journal = tmp_path / "journal.db"

    with sqlite3.connect(Running.journal) as journal:
        journal.execute("CREATE TABLE batches (bet_count, status)")
        journal.execute("CREATE TABLE bets (status)")
        journal.execute("INSERT INTO batches VALUES (99, 'Confirmed'), (1, 'Submitted')")
        journal.executemany("INSERT INTO bets VALUES (?)", [("settled",)] * 99 + [("claimed",)])
    monkeypatch.setattr(settling, "PATIENCE_SECONDS", 0.0)
    placed = asyncio.get_running_loop().create_future()
    placed.set_result(None)
    shown: list[float] = []
    with pytest.raises(NotSettled, match=r"of 100 bets 99 were settled.*99 settled"):
        await settling.settled(cast(BenchStack, Running), 100, placed, shown.append)
    assert shown == [0.99, 0.99] or shown == [0.99]


def test_the_figures_of_a_report_are_put_into_a_document_and_nothing_else_of_it_changes() -> None:
    found = report(measured())
    document = f"# Performance\n\n{BEGIN}\nold figures\n{END}\n\nWhat bounds them."
    written = written_into(document, found)
    assert written.startswith("# Performance\n\n")
    assert written.endswith(f"{END}\n\nWhat bounds them.")
    assert "old figures" not in written
    assert "| few 450.0, zipf 250.0, distinct 140.0 | `--only end-to-end` |" in written
    assert "| growth, memory | at most 1.05 | 1.08 | **missed** |" in written
    assert written_into(written, found) == written
    with pytest.raises(ValueError, match="lacks the marks"):
        written_into("# Performance", found)
