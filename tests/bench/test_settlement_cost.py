"""The figures in the README come from a command, and the command works."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.settlement_cost import QUICK_LEVELS, QUICK_SHAPES, fills
from ledger.transactions import MAX_TRANSACTION_BYTES
from settlement.shapes import SHAPES, Shape, smallest_shape

ROOT = Path(__file__).parents[2]
COMMAND_SECONDS = 120
FULL_BATCH_UNITS = 200_000


def test_the_command_settles_real_batches_and_tells_what_each_has_cost(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "bench", "--quick", "--only", "settlement-cost", "--json", str(report)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    measured = json.loads(report.read_text())
    costs = measured["measured"]["settlement_cost"]
    assert measured["versions"].keys() >= {"python", "temporal", "temporalio", "groth16py", "solders"}
    assert measured["commands"]["compute_units_per_bet"] == 'make bench ARGS="--only settlement-cost"'
    fullest = max(costs, key=lambda cost: (cost["bets"], cost["players"]))
    assert measured["compute_units_per_bet"] == pytest.approx(fullest["compute_units"] / fullest["bets"], abs=0.01)
    assert not measured["errors"]
    assert [cost["shape"] for cost in costs] == [shape.name for shape in QUICK_SHAPES for _ in range(QUICK_LEVELS)]
    for cost in costs:
        assert 0 < cost["compute_units"] <= FULL_BATCH_UNITS
        assert cost["transaction_bytes"] <= MAX_TRANSACTION_BYTES
        assert cost["fee_lamports"] > 0
        assert f"{cost['transaction_bytes']:,}" in done.stdout


def test_a_report_that_cannot_be_written_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", "--quick", "--json", str(tmp_path / "absent" / "report.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert "--json: " in line
    assert line.endswith("report.json cannot be written: No such file or directory")


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_every_number_of_players_that_a_shape_is_used_for_is_measured_at_full_bets(shape: Shape) -> None:
    measured = fills(shape)
    assert (shape.bets, shape.players) in measured
    assert len(set(measured)) == len(measured)
    assert all(smallest_shape(fill.bets, fill.players) == shape for fill in measured)
    assert {fill.players for fill in measured if fill.bets == shape.bets} == {
        players for players in range(1, shape.players + 1) if smallest_shape(shape.bets, players) == shape
    }
