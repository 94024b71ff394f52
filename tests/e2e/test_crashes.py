"""Whatever is killed, at whatever moment: every accepted bet settles, and its batch once."""

import pytest
from temporalio.api.enums.v1 import PendingActivityState

from embedded.processes import ChildFailed
from settlement.bets import Bet
from settlement.intake import Answer
from settlement.lifecycle import BatchStatus
from tests.e2e.machine import Machine, as_json, eventually

FULL_BATCH = 64


async def reaches(machine: Machine, batch_id: str, status: BatchStatus) -> None:
    """Returns as soon as the batch has that status."""

    async def there() -> bool:
        return (await machine.batch(batch_id)).status is status

    await eventually(f"{batch_id} is {status}", there)


async def is_being_proven(machine: Machine, batch_id: str) -> bool:
    """Whether a worker is making the batch's proof, as far as Temporal knows."""
    description = await machine.stack.client.get_workflow_handle(batch_id).describe()
    return any(
        activity.activity_type.name == "prove_batch"
        and activity.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
        for activity in description.raw_description.pending_activities
    )


async def accept(machine: Machine, bets: list[Bet]) -> None:
    """Places bets, all of which must be accepted."""
    assert {outcome.answer for outcome in await machine.place(bets)} == {Answer.ACCEPTED}


async def test_worker_killed_while_one_batch_is_submitted_and_another_being_proven(machine: Machine) -> None:
    before = await machine.balances()
    first, second = machine.bets(10, "submitted"), machine.bets(FULL_BATCH, "proving")
    await accept(machine, first)
    submitted = await machine.batch_of(first[0])
    await reaches(machine, submitted, BatchStatus.SUBMITTED)
    await accept(machine, second)
    proving = await machine.batch_of(second[0])
    await eventually("the proof is being made", lambda: is_being_proven(machine, proving))
    command = await machine.kill("worker")

    with pytest.raises(ChildFailed, match="worker ended with status -9"):
        await machine.stack.wait_until_broken()
    assert (await machine.batch(submitted)).status is BatchStatus.SUBMITTED
    assert (await machine.batch(proving)).status is BatchStatus.PROVING
    assert await machine.journal.attempts(proving) == []
    [meanwhile] = machine.bets(1, "meanwhile")
    await machine.intake.signal(as_json(meanwhile))
    await machine.revive("worker", command)
    bets = [*first, *second, meanwhile]
    await machine.settled(bets)

    await machine.check_settled_once(bets, before)
    assert len(await machine.journal.attempts(submitted)) == 1, "the bytes that were sent before the kill have landed"
    for batch_id in (submitted, proving):
        states = [step.status for step in (await machine.batch(batch_id)).transitions]
        assert states == ["Pending", "Proving", "Proved", "Submitted", "Confirmed"]


async def test_ledger_killed_with_batches_in_flight_and_restarted_on_its_file(machine: Machine) -> None:
    before = await machine.balances()
    first, others = machine.bets(FULL_BATCH, "early"), machine.bets(FULL_BATCH + 5, "late")
    await accept(machine, first)
    await reaches(machine, await machine.batch_of(first[0]), BatchStatus.SUBMITTED)
    await accept(machine, others)
    await machine.batch_of(others[0])
    command = await machine.kill("ledger")

    assert (await machine.batch(await machine.batch_of(first[0]))).status is BatchStatus.SUBMITTED
    await machine.revive("ledger", command)
    await machine.settled([*first, *others])

    await machine.check_settled_once([*first, *others], before)


async def test_temporal_killed_right_after_it_has_accepted_bets(machine: Machine) -> None:
    before = await machine.balances()
    bets = machine.bets(FULL_BATCH + 5, "accepted")
    await accept(machine, bets)
    command = await machine.kill("temporal")
    await machine.revive("temporal", command)

    await machine.settled(bets)

    await machine.check_settled_once(bets, before)
