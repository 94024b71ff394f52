"""Reconciliation agrees on what is honest, and names each way in which journal and chain can be made to differ."""

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pydantic_core import to_json
from temporalio.testing import ActivityEnvironment

from activities import reconciling
from activities.reconciling import MAX_ANSWERED_BYTES, ReconcileRequest, Reconciling
from operations.reconciling import reconcile
from settlement.batches import OnChainBatch
from settlement.errors import ProofRejected
from settlement.lifecycle import BatchStatus
from settlement.reconciliation import REPAIRS, FindingKind, ReconciliationReport
from tests.workflow.casino import LANE, PATIENCE_SECONDS, PLAYERS, STRANGER, Casino, bet, some_bets
from tests.workflow.fakes import FakeLedger
from workflows import policies
from workflows.reconciliation import LANES_AT_ONCE

BETS = some_bets(6)
TOO_MANY = 4_000
"""As many findings, of two lanes, do not fit into one lane's half of what is answered."""


def change_record(casino: Casino, **fields: Any) -> None:
    casino.ledger.records[LANE, 1] = casino.ledger.records[LANE, 1].model_copy(update=fields)


def change_movement(casino: Casino, **fields: Any) -> None:
    ((signature, moved),) = casino.ledger.movements.items()
    casino.ledger.movements[signature] = moved.model_copy(update=fields)


def change_journal(casino: Casino, statement: str, *values: object) -> None:
    """Changes a row of the journal behind its back."""
    with sqlite3.connect(casino.journal_path) as connection:
        changed = connection.execute(statement, values).rowcount
    connection.close()
    assert changed == 1


def kinds(report: ReconciliationReport) -> set[FindingKind]:
    return {finding.kind for finding in report.findings}


async def test_journal_and_chain_agree_on_what_was_settled(casino: Casino) -> None:
    await casino.settle(BETS)
    await casino.settle([bet("other"), bet("homeless", player=STRANGER)])
    (report,) = await casino.reconcile()
    assert report.agreed
    assert (report.batches_compared, report.players_compared, report.open_batches) == (2, 4, 0)
    assert [stored.findings for stored in await casino.journal.latest_reconciliations(10)] == [()]


async def test_a_batch_that_ended_without_a_bet_is_not_open(casino: Casino) -> None:
    result = await casino.settle([bet("homeless", player=STRANGER)])
    assert (result.status, result.settled) == (BatchStatus.FAILED, 0)
    (report,) = await casino.reconcile()
    assert (report.agreed, report.batches_compared, report.open_batches, report.batches) == (True, 0, 0, 0)


async def test_every_lane_has_a_report_of_its_own(casino: Casino) -> None:
    await casino.settle(BETS)
    await casino.settle([bet("elsewhere")], lane=1)
    reports = await casino.reconcile(lanes=2)
    assert [(report.lane, report.batches_compared, report.agreed) for report in reports] == [(0, 1, True), (1, 1, True)]


async def test_several_lanes_are_compared_at_once_but_not_all(casino: Casino, monkeypatch: pytest.MonkeyPatch) -> None:
    lanes, under_way, most = 2 * LANES_AT_ONCE, 0, 0
    together = asyncio.Event()
    read = FakeLedger.batch_records

    async def slow(self: FakeLedger, lane: int) -> list[OnChainBatch]:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if under_way == LANES_AT_ONCE:
            together.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await together.wait()
        under_way -= 1
        return await read(self, lane)

    monkeypatch.setattr(FakeLedger, "batch_records", slow)
    reports = await casino.reconcile(lanes=lanes)
    assert [report.lane for report in reports] == list(range(lanes))
    assert most == LANES_AT_ONCE


async def test_a_vault_is_asked_for_once_however_many_batches_its_player_is_in(
    casino: Casino, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciling, "BATCHES_AT_ONCE", 1)
    for number in range(3):
        await casino.settle(some_bets(6, prefix=str(number)))
    casino.ledger.script.calls.clear()
    (report,) = await casino.reconcile()
    assert report.batches_compared == 3
    assert casino.ledger.script.calls.count("movement") == 3
    assert casino.ledger.script.calls.count("vaults") == 1
    assert report.agreed


async def settle_some(casino: Casino, batches: int, prefix: str = "some") -> None:
    for number in range(batches):
        await casino.settle(some_bets(2, prefix=f"{prefix}-{number}"))


async def test_a_scheduled_run_compares_what_is_new_and_some_of_the_older_batches_in_turn(
    casino: Casino, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciling, "RECHECKED", 2)
    await settle_some(casino, 5)

    async def compared(*, full: bool = False) -> int:
        (report,) = await casino.reconcile(full=full)
        assert report.agreed
        return report.batches_compared

    assert [await compared() for _ in range(2)] == [5, 2]
    await settle_some(casino, 1, "new")
    assert await compared() == 1 + 2
    assert await compared(full=True) == 6


async def test_a_scheduled_run_looks_at_each_older_batch_when_its_turn_comes(
    casino: Casino, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciling, "RECHECKED", 1)
    await settle_some(casino, 3)
    await casino.reconcile(full=False)
    change_journal(casino, "UPDATE bets SET stake = stake + 1 WHERE bet_id = 'some-2-1'")
    reports = [report for _ in range(3) for report in await casino.reconcile(full=False)]
    assert [report.agreed for report in reports] == [True, True, False]
    # Told again until it is mended, whoever's turn it is.
    (report,) = await casino.reconcile(full=False)
    assert not report.agreed


async def test_of_a_lane_new_to_the_worker_the_newest_count_as_new_and_none_is_overlooked_that_one_side_lacks(
    casino: Casino, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciling, "RECHECKED", 0)
    monkeypatch.setattr(reconciling, "NEWEST", 1)
    await settle_some(casino, 3)
    (report,) = await casino.reconcile(full=False)
    assert (report.batches_compared, report.agreed) == (1, True)
    del casino.ledger.records[LANE, 1]
    (report,) = await casino.reconcile(full=False)
    assert FindingKind.NOT_ON_CHAIN in kinds(report)


async def test_a_difference_that_a_report_names_is_told_by_every_worker_until_it_is_mended(
    casino: Casino, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciling, "RECHECKED", 0)
    monkeypatch.setattr(reconciling, "NEWEST", 0)
    await settle_some(casino, 3)
    landed = {batch.number: batch.landing.signature for batch in await casino.batches() if batch.landing}
    movements = casino.ledger.movements
    honest = movements[landed[2]]
    movements[landed[2]] = honest.model_copy(update={"house_delta": honest.house_delta + 1})

    async def another_worker(run: str) -> tuple[bool, int, int | None]:
        request = ReconcileRequest(run_id=run, lane=LANE, full=False)
        environment = ActivityEnvironment()
        environment.info = replace(environment.info, heartbeat_timeout=policies.HEARTBEAT_TIMEOUT)
        report = await environment.run(Reconciling(casino.journal, casino.ledger).reconcile_lane, request)
        return report.agreed, report.batches_compared, report.batches

    assert await another_worker("none knows it yet") == (True, 0, 3)
    (report,) = await casino.reconcile()
    assert (report.agreed, report.batches_compared, report.batches) == (False, 3, 3)
    # Also more often than reports are read back: each run names it anew.
    for run in range(reconciling.RECALLED_REPORTS + 1):
        assert await another_worker(f"it is known {run}") == (False, 1, 3)
    movements[landed[2]] = honest
    assert await another_worker("it is mended") == (True, 1, 3)


async def test_a_record_of_other_bets_is_found_at_once_whoever_s_turn_it_is(
    casino: Casino, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciling, "RECHECKED", 0)
    await settle_some(casino, 2)
    await casino.reconcile(full=False)
    change_record(casino, bets_root=5)
    (report,) = await casino.reconcile(full=False)
    assert FindingKind.ROOT_DIFFERS in kinds(report)


async def test_who_asks_for_all_batches_is_not_given_a_scheduled_run_that_leaves_some_out(
    casino: Casino, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciling, "RECHECKED", 0)
    await settle_some(casino, 2)
    await casino.reconcile(full=False)
    read = FakeLedger.batch_records
    scheduled_is_under_way, full_is_done = asyncio.Event(), asyncio.Event()

    async def held_up_once(self: FakeLedger, lane: int) -> list[OnChainBatch]:
        if not scheduled_is_under_way.is_set():
            scheduled_is_under_way.set()
            await full_is_done.wait()
        return await read(self, lane)

    monkeypatch.setattr(FakeLedger, "batch_records", held_up_once)
    scheduled = asyncio.create_task(casino.reconcile(full=False))
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await scheduled_is_under_way.wait()
            (full,) = await reconcile(casino.client, 1)
    finally:
        full_is_done.set()
        (partial,) = await scheduled
    assert (full.batches_compared, partial.batches_compared) == (2, 0)
    assert full.extent.startswith("2 of 2 batches")
    assert partial.extent.startswith("0 of 2 batches")


async def test_a_batch_on_its_way_is_no_difference(casino: Casino) -> None:
    casino.prover.gate.clear()
    await casino.start_batch(BETS)
    await casino.being_proven()
    (report,) = await casino.reconcile()
    assert (report.agreed, report.batches_compared, report.open_batches) == (True, 0, 1)
    casino.prover.gate.set()


TAMPERING: dict[str, tuple[FindingKind, Callable[[Casino], None]]] = {
    "record gone": (FindingKind.NOT_ON_CHAIN, lambda casino: casino.ledger.records.clear()),
    "record that nobody knows": (FindingKind.NOT_IN_JOURNAL, lambda casino: casino.ledger.take_number(LANE, 99)),
    "transaction gone": (FindingKind.TRANSACTION_UNKNOWN, lambda casino: casino.ledger.movements.clear()),
    "transaction failed": (FindingKind.TRANSACTION_DIFFERS, lambda casino: change_movement(casino, succeeded=False)),
    "transaction in another slot": (FindingKind.TRANSACTION_DIFFERS, lambda casino: change_movement(casino, slot=5)),
    "another circuit on chain": (
        FindingKind.CIRCUIT_DIFFERS,
        lambda casino: change_record(casino, circuit_id=31_337),
    ),
    "another root on chain": (FindingKind.ROOT_DIFFERS, lambda casino: change_record(casino, bets_root=5)),
    "another root in the journal": (
        FindingKind.ROOT_DIFFERS,
        lambda casino: change_journal(casino, "UPDATE batches SET bets_root = ?", f"{5:064x}"),
    ),
    "a bet turned from loss to win": (
        FindingKind.ROOT_DIFFERS,
        lambda casino: change_journal(casino, "UPDATE bets SET outcome = 'heads' WHERE bet_id = 'bet-1'"),
    ),
    "more bets on chain": (FindingKind.COUNTS_DIFFER, lambda casino: change_record(casino, bet_count=7)),
    "more players on chain": (FindingKind.COUNTS_DIFFER, lambda casino: change_record(casino, player_count=5)),
    "another house delta on chain": (
        FindingKind.HOUSE_DELTA_DIFFERS,
        lambda casino: change_record(casino, house_delta=1),
    ),
    "a higher stake in the journal": (
        FindingKind.HOUSE_DELTA_DIFFERS,
        lambda casino: change_journal(casino, "UPDATE bets SET stake = stake + 1 WHERE bet_id = 'bet-1'"),
    ),
    "another movement of a player": (
        FindingKind.BALANCE_DIFFERS,
        lambda casino: change_movement(casino, net_by_player={PLAYERS[0]: 1}),
    ),
    "another movement of the house": (
        FindingKind.BALANCE_DIFFERS,
        lambda casino: change_movement(casino, house_delta=1),
    ),
    "a bet still claimed": (
        FindingKind.JOURNAL_INCONSISTENT,
        lambda casino: change_journal(casino, "UPDATE bets SET status = 'claimed' WHERE bet_id = 'bet-1'"),
    ),
    "a bet said to be refused after all": (
        FindingKind.COUNTS_DIFFER,
        lambda casino: change_journal(
            casino, "UPDATE bets SET status = 'rejected', reason = 'uncovered' WHERE bet_id = 'bet-1'"
        ),
    ),
    "no vault of a player": (
        FindingKind.JOURNAL_INCONSISTENT,
        lambda casino: casino.ledger.indices.clear(),
    ),
}


@pytest.mark.parametrize("name", TAMPERING)
async def test_each_difference_is_found_named_and_kept(casino: Casino, name: str) -> None:
    kind, tamper = TAMPERING[name]
    await casino.settle(BETS)
    tamper(casino)
    (report,) = await casino.reconcile()
    assert kind in kinds(report)
    assert not report.agreed
    (stored,) = await casino.journal.latest_reconciliations(10)
    assert stored == report


async def test_more_differences_than_temporal_takes_as_a_result_are_kept_and_counted(casino: Casino) -> None:
    for number in range(1, TOO_MANY + 1):
        casino.ledger.take_number(LANE, number)
    reports = await casino.reconcile(lanes=2)
    answered = reports[LANE]
    assert len(answered.findings) + answered.further == TOO_MANY
    assert not answered.agreed
    assert len(to_json(answered.findings)) <= MAX_ANSWERED_BYTES // 2 + len("[]")
    (stored,) = [report for report in await casino.journal.latest_reconciliations(10) if report.lane == LANE]
    assert len(stored.findings) == TOO_MANY
    assert stored.findings[: len(answered.findings)] == answered.findings


async def test_a_batch_settled_on_chain_that_the_journal_calls_failed_is_found(casino: Casino) -> None:
    casino.prover.script.fail("prove", ProofRejected("the proof does not verify"))
    await casino.start_batch(BETS)

    async def parked() -> bool:
        return [batch.status for batch in await casino.batches()] == [BatchStatus.FAILED]

    await casino.soon(parked)
    (honest,) = await casino.reconcile()
    assert (honest.agreed, honest.open_batches) == (True, 1)
    casino.ledger.take_number(LANE, 1)
    (report,) = await casino.reconcile()
    assert kinds(report) == {FindingKind.SETTLED_UNRECORDED}


async def test_a_settled_bet_in_an_unconfirmed_batch_is_found(casino: Casino) -> None:
    casino.prover.gate.clear()
    await casino.start_batch(BETS)
    await casino.being_proven()
    change_journal(casino, "UPDATE bets SET status = 'settled' WHERE bet_id = 'bet-1'")
    (report,) = await casino.reconcile()
    assert kinds(report) == {FindingKind.JOURNAL_INCONSISTENT}
    casino.prover.gate.set()


async def test_every_kind_of_finding_has_a_test() -> None:
    elsewhere = {FindingKind.SETTLED_UNRECORDED, *REPAIRS, FindingKind.LOST_BATCH, FindingKind.NOT_RESTARTED}
    assert {kind for kind, _ in TAMPERING.values()} | elsewhere == set(FindingKind)
