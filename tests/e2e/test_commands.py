"""`starter.py` and the `temporal` command from another terminal, which knows nothing of the stack but its state directory."""

import asyncio
import json
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from commands.running import STOPPED_STATUS
from embedded import processes
from embedded.processes import Child
from embedded.site import BIN, ROOT
from operations.views import BetView
from settlement.bets import Bet, RejectionReason
from tests.e2e.machine import (
    COMMAND_SECONDS,
    Machine,
    as_json,
    as_line,
    environment,
    eventually,
    run,
)


@contextmanager
def frozen(child: Child) -> Generator[None]:
    """The process lives and does nothing."""
    child.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        child.process.send_signal(signal.SIGCONT)


async def view_of(machine: Machine, bet_id: str) -> BetView:
    """What `status --json` says of a bet."""
    done = await machine.starter("status", bet_id, "--json")
    assert (done.status, done.err) == (0, "")
    return BetView.model_validate_json(done.out)


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


@pytest.mark.parametrize("door", ["update", "signal"])
async def test_what_temporal_cannot_carry_as_json_is_recorded_as_its_text(
    machine: Machine, tmp_path: Path, door: str
) -> None:
    sent = {f"surrogate by {door}": '"\\ud800"'}
    for depth in (220, 400, 100_000):
        sent[f"{depth} deep by {door}"] = "[" * depth + "]" * depth
    file = tmp_path / "bets.jsonl"
    file.write_text("\n".join(f'["{note}", {value}]' for note, value in sent.items()))
    done = await machine.starter("place", "--door", door, str(file))
    assert (done.status, done.err) == (1 if door == "update" else 0, "")

    async def recorded() -> bool:
        malformed = [
            rejection.payload
            for rejection in await machine.journal.rejections(50)
            if rejection.reason is RejectionReason.MALFORMED
        ]
        return all(any(note in payload for payload in malformed) for note in sent)

    await eventually("all are in the journal", recorded)


async def test_conflict_through_the_tracked_door_is_not_shown_as_settled(machine: Machine, settled: Bet) -> None:
    other = settled.model_copy(update={"stake": settled.stake + 777_000})
    done = await machine.starter("place", "--door", "workflow", "--bet", as_line(other))
    assert (done.status, done.err) == (1, "")
    assert f"rejected {settled.bet_id}: conflict: " in done.out
    assert "settled" not in done.out.replace(settled.bet_id, "")

    again = await machine.starter("place", "--door", "workflow", "--bet", as_line(settled))
    assert (again.status, again.err) == (0, "")
    assert f"{settled.bet_id}: settled" in again.out


async def test_receipt_of_another_bet_with_the_same_id_is_not_shown_as_the_bets_own(machine: Machine) -> None:
    [bet] = machine.bets(1, "overtaken")
    other = bet.model_copy(update={"stake": bet.stake + 1})
    await machine.place([bet])
    done = await machine.starter("place", "--door", "workflow", "--bet", as_line(other))
    assert (done.status, f"{bet.bet_id}: rejected" in done.out) == (1, True)

    done = await machine.starter("place", "--door", "workflow", "--bet", as_line(bet))
    assert (done.status, done.err) == (1, "")
    assert f"{bet.bet_id}: taken in, but bet-{bet.bet_id} was another bet's" in done.out
    await machine.settled([bet])


async def test_status_of_a_bet_shows_its_receipt_checked_against_the_chain(machine: Machine, settled: Bet) -> None:
    done = await machine.starter("status", settled.bet_id)
    assert (done.status, done.err) == (0, "")
    assert f"{settled.bet_id}: settled" in done.out
    assert "its inclusion proof leads to the bets root on chain" in done.out

    view = await view_of(machine, settled.bet_id)
    assert (view.state, view.holds) == ("settled", True)
    assert view.receipt is not None
    assert (view.receipt.status, view.receipt.bet) == ("settled", settled)


async def test_status_of_a_bet_that_is_not_settled_is_json_too(machine: Machine) -> None:
    refused, claimed = machine.bets(2, "unsettled")
    await machine.intake.signal({**as_json(refused), "stake": 0})

    async def recorded() -> bool:
        return bool(await machine.journal.rejections(1, refused.bet_id))

    await eventually("the rejection is in the journal", recorded)
    view = await view_of(machine, refused.bet_id)
    assert (view.state, view.receipt, view.holds) == ("rejected", None, None)
    assert [rejection.reason for rejection in view.rejections] == [RejectionReason.STAKE_OUT_OF_RANGE]

    await machine.place([claimed])
    batch_id = await machine.batch_of(claimed)
    with frozen(machine.children["worker"]):
        view = await view_of(machine, claimed.bet_id)
    assert (view.state, view.batch_id, view.receipt, view.holds) == ("claimed", batch_id, None, None)
    await machine.settled([claimed])


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


async def test_receipt_is_verified_by_somebody_who_has_nothing_but_a_node(
    machine: Machine, settled: Bet, tmp_path: Path
) -> None:
    receipt, tampered = tmp_path / "receipt.json", tmp_path / "tampered.json"
    done = await machine.starter("status", settled.bet_id, "--json")
    receipt.write_text(done.out)
    tampered.write_text(done.out.replace(f'"stake": {settled.stake}', f'"stake": {settled.stake + 1}'))
    theirs = {
        "CROUPIER_VAR": str(tmp_path),
        "CROUPIER_RPC_URL": machine.stack.rpc_url,
        "CROUPIER_PROGRAM_ID": str(machine.stack.settings.program_id),
    }
    honest, forged = await asyncio.gather(
        *(run([sys.executable, "starter.py", "verify", file], theirs) for file in (receipt, tampered))
    )
    assert (honest.status, honest.err) == (0, "")
    assert f"{settled.bet_id}: holds: {settled.delta:+,} lamports for {settled.player} in batch" in honest.out
    assert (forged.status, forged.err) == (1, "")
    assert f"{settled.bet_id}: does not hold: the bet is not what the inclusion's packs hold" in forged.out


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

    conflict = bets[0].model_copy(update={"stake": bets[0].stake + 1})
    await machine.place([conflict])

    async def recorded() -> bool:
        return bool(await machine.journal.rejections(1, conflict.bet_id))

    await eventually("the conflict is in the journal", recorded)
    assert (await view_of(machine, conflict.bet_id)).state == "queued", "what it conflicts with is not rejected"

    assert (await machine.starter("resume", "0")).status == 0
    await machine.settled(bets)


async def test_operating_what_is_not_there_says_so(machine: Machine) -> None:
    for command in (("pause", "9"), ("retry", "settlement-0-none")):
        done = await machine.starter(*command)
        assert done.status == 1
        assert done.err.startswith("starter: ")
        assert "not found" in done.err
        assert len(done.err.splitlines()) == 1


async def test_commands_say_that_no_worker_answers_and_can_be_stopped(machine: Machine, tmp_path: Path) -> None:
    [bet] = machine.bets(1, "unanswered")
    waiting: list[Child] = []
    with frozen(machine.children["worker"]):
        with environment({"CROUPIER_VAR": str(machine.var)}):
            for name, *arguments in (("place", "--bet", as_line(bet)), ("reconcile",)):
                command = [sys.executable, "starter.py", name, *arguments]
                waiting.append(await processes.start(name, command, log=tmp_path / f"{name}.log", folder=ROOT))
        shown = await machine.starter("status")
        for child in waiting:
            await child.wait_for_line("no worker answers for lane 0: start `python worker.py`", COMMAND_SECONDS)
            child.process.send_signal(signal.SIGINT)
            assert await child.process.wait() == STOPPED_STATUS
            said = child.log.read_text().splitlines()
            assert (len(said), said[-1]) == (2, "stopped")

    assert shown.status == 1
    assert shown.err.startswith("starter: no worker answers for lane 0: start `python worker.py`")
    assert len(shown.err.splitlines()) == 1
    assert "Latest batches" in shown.out
    await machine.place([bet])
    await machine.settled([bet])
