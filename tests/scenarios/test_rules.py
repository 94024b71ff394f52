"""Each rule of the transaction manager is necessary: a scenario that ends well with it ends badly without it, and nothing else."""

import contextlib
from collections.abc import Sequence

import pytest

from settlement.batches import BetStatus, SignedAttempt
from settlement.bets import Bet
from settlement.lifecycle import BatchStatus
from tests.scenarios import defects
from tests.scenarios.audit import ClaimedTooMuch, NotExactlyOnce, PaidTwice, each_settled_once
from tests.scenarios.company import staged
from tests.scenarios.mortal import When
from tests.scenarios.stage import DEPOSIT_LAMPORTS, LONG_SLOT_SECONDS, PLAYERS, Stage, bet, eventually, usual_bets

WITH_AND_WITHOUT = pytest.mark.parametrize(
    "kept", [pytest.param(True, id="kept", marks=pytest.mark.slow), pytest.param(False, id="removed")]
)


async def ends(
    stage: Stage,
    bets: list[Bet],
    *,
    kept: bool,
    otherwise: type[NotExactlyOnce],
    rejected: Sequence[Bet] = (),
    foreign: Sequence[Sequence[Bet]] = (),
) -> None:
    """The assertion of every scenario, which must fail without the rule."""
    with contextlib.nullcontext() if kept else pytest.raises(otherwise):
        await each_settled_once(stage, bets, rejected, foreign)


@WITH_AND_WITHOUT
@staged(slot_seconds=LONG_SLOT_SECONDS, hires=False)
async def test_signed_bytes_are_durable_before_they_are_sent(stage: Stage, kept: bool) -> None:
    """Else they land when they are forgotten and their batch has become another one."""
    forgotten: list[SignedAttempt] = []
    if not kept:
        stage.defects.append(defects.sends_before_it_keeps(forgotten))
    stage.hire()
    await stage.fault("drop", count=1)
    death = stage.script.kill("ledger.sign", When.AFTER)
    bets = usual_bets()
    poor = PLAYERS.index(bets[3].player)
    await stage.place(bets)
    await death.reached()
    await stage.mend()
    stage.defects.clear()
    await stage.withdraw(poor, DEPOSIT_LAMPORTS)
    signing = stage.script.hold("ledger.sign")
    await signing.reached()
    again = stage.script.hold("journal.record_transition Proving", When.AFTER)
    signing.resume()
    await again.reached()
    await stage.deposit(stage.vault(poor), DEPOSIT_LAMPORTS)
    for attempt in forgotten:
        await stage.ledger.broadcast(attempt)
        await eventually("it lands late", lambda: stage.final_record(1))
    again.resume()

    await stage.decided(bets)

    await ends(stage, bets, kept=kept, otherwise=PaidTwice, rejected=[bets[3]])


@WITH_AND_WITHOUT
@staged(slot_seconds=0.02, hires=False)
async def test_a_node_is_believed_only_as_of_what_was_called_final_before(stage: Stage, kept: bool) -> None:
    """Else a bet is given up as refused which its landed attempt has settled."""
    if not kept:
        stage.defects.append(defects.believes_stale_answers)
    stage.hire()
    sent = stage.script.kill("ledger.broadcast", When.AFTER)
    bets = usual_bets()
    await stage.place(bets)
    await sent.reached()
    await stage.batch_workflow(bets).terminate("its history is lost")
    await eventually("it has landed", lambda: stage.final_record(1))
    [attempt] = await stage.attempts(bets)
    await stage.withdraw(PLAYERS.index(bets[3].player), DEPOSIT_LAMPORTS - 2 * bets[3].stake + 1)

    async def expired() -> bool:
        return (await stage.rpc.epoch_info("finalized")).block_height > attempt.last_valid_block_height

    await eventually("the attempt has expired", expired)
    await stage.fault("behind", slots=400, methods=["getSignatureStatuses", "getAccountInfo"])
    looked = len(stage.script.passed)
    await stage.start_batch(bets, revived=True)

    async def misled() -> bool:
        given_up = await stage.journal.bet(bets[3].bet_id)
        rejected = given_up is not None and given_up.status is BetStatus.REJECTED
        return rejected or stage.script.passed[looked:].count("during ledger.judge") > 2

    await eventually("the stale node was asked", misled)
    await stage.mend()
    if kept:
        await stage.decided(bets)

    await ends(stage, bets, kept=kept, otherwise=NotExactlyOnce)


@staged(slot_seconds=LONG_SLOT_SECONDS, commitment="confirmed", hires=False)
async def test_confirmed_is_not_final(stage: Stage) -> None:
    """Else a fork undoes what was called settled, and nobody notices. With the rule: `tests/scenarios/test_network.py`."""
    stage.defects.append(defects.takes_confirmed_for_final)
    stage.hire()
    bets = usual_bets()
    await stage.place(bets)
    await stage.reaches(bets, BatchStatus.CONFIRMED)
    await stage.fork_away(1)
    await stage.idle()

    await ends(stage, bets, kept=False, otherwise=ClaimedTooMuch)


@WITH_AND_WITHOUT
@staged(hires=False)
async def test_a_record_with_this_batchs_root_is_this_batch(stage: Stage, kept: bool) -> None:
    if not kept:
        stage.defects.append(defects.renumbers_what_is_its_own)
    stage.hire()
    signing = stage.script.hold("ledger.sign")
    bets = usual_bets()
    await stage.place(bets)
    await signing.reached()
    await stage.rival(bets, 1)
    signing.resume()

    await stage.decided(bets)

    await ends(stage, bets, kept=kept, otherwise=PaidTwice)


@WITH_AND_WITHOUT
@staged(hires=False)
async def test_a_record_with_another_root_is_another_batch(stage: Stage, kept: bool) -> None:
    if not kept:
        stage.defects.append(defects.takes_any_record_for_its_own)
    stage.hire()
    signing = stage.script.hold("ledger.sign")
    bets, others = usual_bets(), [bet("other", 3, 50_000)]
    await stage.place(bets)
    await signing.reached()
    await stage.rival(others, 1)
    signing.resume()

    await stage.decided(bets)

    await ends(stage, bets, kept=kept, otherwise=ClaimedTooMuch, foreign=[others])


@WITH_AND_WITHOUT
@staged(slot_seconds=LONG_SLOT_SECONDS, hires=False)
async def test_nothing_is_signed_anew_on_a_time_out(stage: Stage, kept: bool) -> None:
    """Else what was given up lands as well. (Under its own number it could not: that is what the record is for.)"""
    if not kept:
        stage.defects.append(defects.takes_a_time_out_for_a_refusal)
    stage.hire()
    await stage.fault("drop")
    bets = usual_bets()
    await stage.place(bets)

    async def waited() -> bool:
        attempts = await stage.attempts(bets)
        return len(attempts) > 1 or stage.script.passed.count("after ledger.judge") > 20

    await eventually("patience is needed", waited)
    first, *_ = await stage.attempts(bets)
    await stage.mend()
    await stage.ledger.broadcast(first)

    await stage.decided(bets)

    await ends(stage, bets, kept=kept, otherwise=PaidTwice)
