"""The main job, end to end on the real parts: what `make demo` shows."""

import json
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

import composition
from embedded.demo import run
from embedded.demo.report import DemoReport
from embedded.demo.run import DemoPlan, run_demo
from embedded.demo.scenario import MIN_BETS
from embedded.json_files import write
from embedded.stack import Stack, running_stack
from settings import VAR_VARIABLE, InvalidSetting
from settlement.bets import RejectionReason
from settlement.shapes import DEFAULT_SHAPE, DEFAULT_SHAPES, SHAPES
from tests.e2e.machine import Machine, environment, provisioned_directory

PLAN = DemoPlan(bets=DEFAULT_SHAPE.bets + SHAPES[0].bets, players=SHAPES[0].players, seed=7)
"""Enough for one full batch and a small one, so that both circuits are used."""

SMALL_PLAN = DemoPlan(bets=MIN_BETS, players=4, seed=7)
SLOT_MS = 200
"""Final 6.4 seconds after it is confirmed: later than the demo has seen all else."""


def silent(_what: str, _part: float) -> None:
    return


@pytest.fixture(scope="module")
async def report(machine: Machine) -> DemoReport:
    return await run_demo(machine.stack, machine.var, PLAN, silent)


async def test_chain_journal_and_what_was_placed_agree_to_the_lamport(report: DemoReport) -> None:
    assert report.differences == []
    assert report.agreed
    assert [balance.after for balance in report.balances] == [balance.expected for balance in report.balances]
    assert report.house.after == report.house.expected
    everybody = (*report.balances, report.house)
    assert sum(balance.after for balance in everybody) == sum(balance.before for balance in everybody)


async def test_every_kind_of_bad_bet_is_rejected_with_its_reason(report: DemoReport) -> None:
    assert report.rejected == {
        RejectionReason.MALFORMED: 1,
        RejectionReason.STAKE_OUT_OF_RANGE: 1,
        RejectionReason.CONFLICT: 1,
        RejectionReason.NO_VAULT: 1,
        RejectionReason.UNCOVERED: 1,
    }
    assert report.duplicates >= 3
    # All but the four odd bets; two of those four are taken in and refused only when their batch is claimed.
    assert (report.settled, report.accepted) == (PLAN.bets - 4, PLAN.bets - 2)


async def test_each_batch_is_proven_by_the_smallest_circuit_and_shows_how_it_landed(report: DemoReport) -> None:
    assert {batch.circuit for batch in report.batches} == {shape.circuit_id for shape in DEFAULT_SHAPES}
    assert sum(batch.bets for batch in report.batches) == report.settled
    for batch in report.batches:
        small = batch.bets <= SHAPES[0].bets and batch.players <= SHAPES[0].players
        assert batch.circuit == (SHAPES[0] if small else SHAPES[1]).circuit_id
        assert batch.status == "Confirmed"
        assert batch.proof_milliseconds is not None
        assert batch.compute_units is not None
        assert batch.signature is not None
        assert batch.slot is not None


async def test_json_report_has_the_promised_keys(report: DemoReport) -> None:
    written = json.loads(report.model_dump_json())
    promised = "accepted settled duplicates rejected batches balances agreed web_ui rpc_url seconds"
    assert set(promised.split()) <= written.keys()
    assert written["agreed"] is True
    assert written["rejected"]["malformed"] == 1
    assert len(written["balances"]) == PLAN.players + 1, "the players, and the one who cannot cover his loss"
    assert {"player", "before", "after", "expected"} == written["balances"][0].keys()
    assert {"number", "bets", "players", "proof_milliseconds", "compute_units", "signature", "slot"} <= written[
        "batches"
    ][0].keys()


async def test_second_demo_on_the_same_stack_agrees_again(machine: Machine, report: DemoReport) -> None:
    again = await run_demo(machine.stack, machine.var, PLAN, silent)
    assert again.differences == []
    assert again.rejected == report.rejected
    assert {batch.batch_id for batch in again.batches}.isdisjoint(batch.batch_id for batch in report.batches)


async def test_report_that_can_no_longer_be_written_is_named(report: DemoReport, tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match=f"--json: {tmp_path} cannot be written: Is a directory"):
        write(report, tmp_path)


@pytest.fixture(scope="module")
async def hasty(tmp_path_factory: pytest.TempPathFactory, circuit_keys: Path) -> AsyncGenerator[tuple[Stack, Path]]:
    """A stack that calls a batch Confirmed long before it is final, and its state."""
    var = await provisioned_directory(tmp_path_factory.mktemp("hasty"), circuit_keys)
    hasty = {"CROUPIER_COMMITMENT": "confirmed", "CROUPIER_WINDOW_SECONDS": "0.5", VAR_VARIABLE: str(var)}
    with environment(hasty):
        async with running_stack(var, {}, silent, slot_ms=SLOT_MS) as stack:
            yield stack, var


async def test_verdict_waits_until_every_batch_has_been_compared(hasty: tuple[Stack, Path]) -> None:
    stack, var = hasty
    report = await run_demo(stack, var, SMALL_PLAN, silent)
    assert report.agreed
    async with composition.open_journal(stack.settings) as journal:
        [last] = await journal.latest_reconciliations(1)
    assert last.batches_compared >= len(report.batches)


async def test_batch_that_was_not_compared_is_a_difference(
    hasty: tuple[Stack, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "FINALITY_SECONDS", 0)
    report = await run_demo(*hasty, SMALL_PLAN, silent)
    assert not report.agreed
    missed = {f"batch {batch.number} of lane 0 was not compared" for batch in report.batches}
    assert {difference.partition(":")[0] for difference in report.differences} <= missed
