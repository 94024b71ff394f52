"""Whole processes are killed with SIGKILL: workers in the middle of a step, a prover in the middle of a proof, Temporal's server."""

import pytest

from settlement.intake import Answer
from tests.scenarios.audit import each_settled_once
from tests.scenarios.company import scenario, staged
from tests.scenarios.mortal import When
from tests.scenarios.stage import LANE, Stage, usual_bets
from worker import Queues
from workflows.batcher import Batcher


@pytest.mark.parametrize(
    ("when", "step"),
    [
        (When.AFTER, "journal.claim"),
        (When.AFTER, "journal.record_attempt"),
        (When.AFTER, "ledger.broadcast"),
        (When.BEFORE, "journal.confirm"),
    ],
)
@staged(hires=False)
async def test_a_worker_process_is_killed(stage: Stage, when: When, step: str) -> None:
    stage.hire(settles=False)
    bets = usual_bets()
    async with stage.killed_worker(Queues.SETTLEMENT, when, step) as killed:
        await stage.place(bets)
        await killed()
    stage.hire()

    await stage.decided(bets)

    await each_settled_once(stage, bets)


@staged(hires=False)
async def test_a_proving_worker_is_killed_in_the_middle_of_a_proof(stage: Stage) -> None:
    stage.hire(proves=False)
    bets = usual_bets()
    async with stage.killed_worker(Queues.PROVING, When.DURING, "prover.prove") as killed:
        await stage.place(bets)
        await killed()
    stage.hire()

    await stage.decided(bets)

    await each_settled_once(stage, bets)


@pytest.mark.parametrize("step", [pytest.param("prover.prove", marks=pytest.mark.slow), "ledger.broadcast"])
@staged(own_temporal=True)
async def test_the_temporal_server_is_killed_and_started_again(stage: Stage, step: str) -> None:
    held = stage.script.hold(step, When.AFTER)
    bets = usual_bets()
    await stage.place(bets)
    await held.reached()
    assert stage.own_temporal is not None
    await stage.own_temporal.kill()
    held.resume()
    await stage.own_temporal.start()

    await stage.decided(bets)

    await each_settled_once(stage, bets)


@scenario
async def test_a_batcher_is_terminated_and_started_afresh(stage: Stage) -> None:
    """With bets in its queue, one of which it was sent when no worker was there to tell it."""
    batcher = stage.batcher
    await batcher.signal(Batcher.pause)
    bets = usual_bets()
    await stage.place(bets[:3])
    await stage.dismiss()
    await stage.intake.signal(bets[3].model_dump(mode="json", exclude_none=True))
    await batcher.terminate("by mistake")
    await stage.intake.ensure_batcher(LANE)
    stage.hire()
    [again] = await stage.place(bets[:1])
    await batcher.signal(Batcher.resume)

    await stage.decided(bets)

    assert again.answer is Answer.DUPLICATE
    await each_settled_once(stage, bets)
    assert (await stage.idle()).counters.accepted == len(bets)
