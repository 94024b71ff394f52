"""The main job, end to end on the real parts: what `make demo` shows."""

import json

import pytest

from embedded.demo.report import DemoReport
from embedded.demo.run import DemoPlan, run_demo
from settlement.bets import RejectionReason
from settlement.shapes import SHAPES
from tests.e2e.machine import Machine

PLAN = DemoPlan(bets=80, players=12, seed=7)
"""Enough for one full batch and a small one, so that both circuits are used."""


@pytest.fixture(scope="module")
async def report(machine: Machine) -> DemoReport:
    return await run_demo(machine.stack, machine.var, PLAN, lambda _what, _part: None)


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
    assert {batch.circuit for batch in report.batches} == {shape.circuit_id for shape in SHAPES}
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
    again = await run_demo(machine.stack, machine.var, PLAN, lambda _what, _part: None)
    assert again.differences == []
    assert again.rejected == report.rejected
    assert {batch.batch_id for batch in again.batches}.isdisjoint(batch.batch_id for batch in report.batches)
