"""`starter.py` and the `temporal` command from another terminal, which knows nothing of the stack but its state directory."""

import asyncio
import json
from pathlib import Path

import pytest

from embedded.stack import BIN
from settlement.bets import Bet
from settlement.receipts import Receipt
from tests.e2e.machine import Machine, as_json, as_line, eventually, run


async def test_bets_through_every_door_settle(machine: Machine) -> None:
    by_update, by_signal, by_workflow, by_hand = bets = machine.bets(4, "door")
    # As from any other language: nothing of ours takes part on the sender's side.
    signal = ("workflow", "signal", "--workflow-id", "batcher-0", "--name", "place_bet", "--input", as_line(by_hand))
    updated, signalled, tracked, sent = await asyncio.gather(
        machine.starter("place", "--bet", as_line(by_update)),
        machine.starter("place", "--door", "signal", "--bet", as_line(by_signal)),
        machine.starter("place", "--door", "workflow", "--bet", as_line(by_workflow)),
        run([BIN / "temporal", *signal, "--address", machine.stack.temporal_address], {}),
    )

    assert (updated.status, updated.err) == (0, "")
    assert "1 accepted, 0 duplicate, 0 rejected" in updated.out
    assert (signalled.status, signalled.err) == (0, "")
    assert "1 sent" in signalled.out
    assert (tracked.status, tracked.err) == (0, ""), "it has waited for the receipt"
    assert f"{by_workflow.bet_id}: settled" in tracked.out
    assert f"{by_workflow.delta:+,} lamports for {by_workflow.player}" in tracked.out
    assert (sent.status, sent.err) == (0, "")
    await machine.settled(bets)


async def test_file_of_bets_is_placed_and_each_bad_line_is_named(machine: Machine, tmp_path: Path) -> None:
    good, other = machine.bets(2, "filed")
    malformed = {**as_json(other), "player": "nobody"}
    file = tmp_path / "bets.jsonl"
    file.write_text("\n".join([as_line(good), as_line(good), "", json.dumps(malformed), "{no json", as_line(other)]))

    done = await machine.starter("place", str(file))

    assert (done.status, done.err) == (1, "")
    assert f"rejected {other.bet_id}: malformed: player:" in done.out
    assert "rejected (no id): malformed: a bet is a JSON object" in done.out
    assert "2 accepted, 1 duplicate, 2 rejected" in done.out
    await machine.settled([good, other])
    recorded = await machine.journal.rejections(20)
    assert any(rejection.bet_id == other.bet_id for rejection in recorded)
    assert any("{no json" in rejection.payload for rejection in recorded)


@pytest.mark.parametrize(("door", "status"), [("signal", 0), ("workflow", 1)])
async def test_bad_bet_is_recorded_with_its_reason_through_the_other_doors_too(
    machine: Machine, door: str, status: int
) -> None:
    bad = {"bet_id": f"bad-by-{door}", "player": "nobody", "stake": 1, "guess": "heads", "outcome": "heads"}
    done = await machine.starter("place", "--door", door, "--bet", json.dumps(bad))
    assert (done.status, done.err) == (status, "")

    async def recorded() -> bool:
        rejections = await machine.journal.rejections(20)
        return any(rejection.bet_id == bad["bet_id"] and "player" in rejection.detail for rejection in rejections)

    await eventually("the rejection is in the journal", recorded)


async def test_status_of_a_bet_shows_its_receipt_checked_against_the_chain(machine: Machine, settled: Bet) -> None:
    done = await machine.starter("status", settled.bet_id)
    assert (done.status, done.err) == (0, "")
    assert f"{settled.bet_id}: settled" in done.out
    assert "its inclusion proof leads to the bets root on chain" in done.out

    done = await machine.starter("status", settled.bet_id, "--json")
    assert done.status == 0
    receipt = Receipt.model_validate_json(done.out)
    assert (receipt.status, receipt.bet) == ("settled", settled)


async def test_status_of_a_batch_shows_its_life_and_its_bets(machine: Machine, settled: Bet) -> None:
    batch_id = await machine.batch_of(settled)
    done = await machine.starter("status", batch_id)
    assert (done.status, done.err) == (0, "")
    for word in ("Pending", "Proving", "Proved", "Submitted", "Confirmed", settled.bet_id):
        assert word in done.out

    done = await machine.starter("status", batch_id, "--json")
    assert done.status == 0
    assert json.loads(done.out)["batch_id"] == batch_id


async def test_status_of_an_unknown_bet_says_so(machine: Machine) -> None:
    done = await machine.starter("status", "never-placed")
    assert done.status == 1
    assert done.err.startswith("starter: no bet or batch never-placed is in the journal")
    assert len(done.err.splitlines()) == 1


async def test_balances_are_the_chains(machine: Machine, settled: Bet) -> None:
    done = await machine.starter("balances", settled.player)
    assert (done.status, done.err) == (0, "")
    balances = await machine.balances()
    assert f"{balances.house:,}" in done.out
    assert f"{balances.players[settled.player]:,}" in done.out


async def test_paused_lane_takes_bets_and_settles_them_once_resumed(machine: Machine) -> None:
    bets = machine.bets(3, "paused")
    assert (await machine.starter("pause", "0")).status == 0
    await machine.place(bets)

    done = await machine.starter("status", "--json")
    [lane] = json.loads(done.out)
    assert (lane["paused"], lane["queued"]) == (True, len(bets))
    assert "paused" in (await machine.starter("status")).out

    assert (await machine.starter("resume", "0")).status == 0
    await machine.settled(bets)


async def test_operating_what_is_not_there_says_so(machine: Machine) -> None:
    for command in (("pause", "9"), ("retry", "settlement-0-none")):
        done = await machine.starter(*command)
        assert done.status == 1
        assert done.err.startswith("starter: ")
        assert "not found" in done.err
        assert len(done.err.splitlines()) == 1
