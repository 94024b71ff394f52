"""Bets that cannot be settled, and bets that come twice: the others are settled once, and none is lost without a word."""

from collections.abc import Awaitable, Callable

import pytest

from settlement.batches import BetStatus
from settlement.bets import RejectionReason
from settlement.intake import Answer
from settlement.lifecycle import BatchStatus
from tests.scenarios.audit import each_settled_once
from tests.scenarios.company import scenario
from tests.scenarios.mortal import When
from tests.scenarios.stage import (
    DEPOSIT_LAMPORTS,
    HOUSE_LAMPORTS,
    PLAYERS,
    SHAPE,
    STRANGER,
    Stage,
    bet,
    eventually,
    usual_bets,
)


@pytest.mark.parametrize(("when", "step"), [(When.BEFORE, "prover.prove"), (When.BEFORE, "ledger.broadcast")])
@scenario
async def test_a_vault_is_drained_between_claim_and_settlement(stage: Stage, when: When, step: str) -> None:
    """Found out by the simulation before signing, or by the program after: either way the rest is settled without the bet."""
    held = stage.script.hold(step, when)
    bets = usual_bets()
    uncovered = bets[3]
    await stage.place(bets)
    await held.reached()
    await stage.withdraw(PLAYERS.index(uncovered.player), DEPOSIT_LAMPORTS)
    held.resume()

    records = await stage.decided(bets)

    assert records[3].reason is RejectionReason.UNCOVERED
    await each_settled_once(stage, bets, rejected=[uncovered])


@scenario
async def test_poison_bets_in_a_full_batch(stage: Stage) -> None:
    bets = [bet(f"bet-{n}", n % 6, 1_000 + n, won=n % 3 == 0) for n in range(SHAPE.bets)]
    bets[5] = bet("of nobody".replace(" ", "-"), STRANGER, 5_000)
    bets[9] = bet("of-too-much", 3, 2 * DEPOSIT_LAMPORTS)
    await stage.place(bets)

    records = await stage.decided(bets)

    assert records[5].reason is RejectionReason.NO_VAULT
    assert records[9].reason is RejectionReason.UNCOVERED
    assert len({record.batch_id for record in records}) == 1
    await each_settled_once(stage, bets, rejected=[bets[5], bets[9]])


async def while_pending(stage: Stage) -> Callable[[], Awaitable[None]]:
    return await _held(stage, "journal.claim", When.AFTER)


async def while_proving(stage: Stage) -> Callable[[], Awaitable[None]]:
    return await _held(stage, "prover.prove")


async def while_proved(stage: Stage) -> Callable[[], Awaitable[None]]:
    return await _held(stage, "ledger.sign")


async def while_submitted(stage: Stage) -> Callable[[], Awaitable[None]]:
    return await _held(stage, "ledger.judge")


async def once_confirmed(stage: Stage) -> Callable[[], Awaitable[None]]:
    await stage.place(usual_bets())
    await stage.decided(usual_bets())

    async def nothing() -> None:
        return

    return nothing


async def while_failed(stage: Stage) -> Callable[[], Awaitable[None]]:
    await stage.withdraw_bankroll(HOUSE_LAMPORTS - usual_bets()[1].stake // 2)
    await stage.place(usual_bets())
    await stage.reaches(usual_bets(), BatchStatus.FAILED)

    async def top_up() -> None:
        await stage.deposit(stage.house, HOUSE_LAMPORTS)

    return top_up


async def _held(stage: Stage, step: str, when: When = When.BEFORE) -> Callable[[], Awaitable[None]]:
    held = stage.script.hold(step, when)
    await stage.place(usual_bets())
    await held.reached()

    async def resume() -> None:
        held.resume()

    return resume


STATES = {
    BatchStatus.PENDING: while_pending,
    BatchStatus.PROVING: while_proving,
    BatchStatus.PROVED: while_proved,
    BatchStatus.SUBMITTED: while_submitted,
    BatchStatus.CONFIRMED: once_confirmed,
    BatchStatus.FAILED: while_failed,
}
"""For each state, what brings the usual batch there; it answers what lets the batch go on."""


@pytest.mark.parametrize("state", list(BatchStatus))
@scenario
async def test_a_duplicate_arrives_while_its_original_is_in_each_of_the_six_states(
    stage: Stage, state: BatchStatus
) -> None:
    """At all three doors, and in another batch that some other Batcher has cut."""
    go_on = await STATES[state](stage)
    bets = usual_bets()

    async def there() -> bool:
        return (await stage.batch_status(bets)).status is state

    await eventually(f"the batch is {state}", there)
    duplicate, new = bets[2], bet("new", 4, 77)

    [at_fast_door] = await stage.place([duplicate])
    await stage.intake.signal(duplicate.model_dump(mode="json", exclude_none=True))
    tracked = await stage.intake.track(duplicate)
    other = await stage.start_batch([duplicate, new])

    assert at_fast_door.answer is Answer.DUPLICATE
    await stage.decided([new])
    await go_on()
    records = await stage.decided([*bets, new])
    assert {record.status for record in records} == {BetStatus.SETTLED}
    assert (await tracked.result()).batch_id == stage.batch_workflow(bets).id
    assert (await other.result()).duplicates == 1
    await each_settled_once(stage, [*bets, new])
