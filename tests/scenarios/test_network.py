"""The node loses, withholds or contradicts what was said: each bet is settled once, and signed anew only on proof of expiry."""

import pytest

from localnet.chain import BLOCKHASH_BLOCKS_MAX
from settlement.bets import Bet
from settlement.lifecycle import BatchStatus
from tests.scenarios.audit import each_settled_once
from tests.scenarios.company import scenario, staged
from tests.scenarios.mortal import When
from tests.scenarios.stage import (
    DEPOSIT_LAMPORTS,
    LONG_SLOT_SECONDS,
    SHORT_SLOT_SECONDS,
    Stage,
    bet,
    eventually,
    usual_bets,
)

ONCE = {"count": 1}
A_WHILE = 4
"""Requests that go wrong before the node is mended."""
LAG_SLOTS = 400
"""What was paid in shortly before a batch is claimed is not shown by a node that lags so far."""

BODY_FAULTS = [
    {"kind": "http_status", "status": 429},
    pytest.param({"kind": "http_status", "status": 503}, marks=pytest.mark.slow),
    {"kind": "bad_body"},
    pytest.param({"kind": "refuse"}, marks=pytest.mark.slow),
    pytest.param({"kind": "rpc_error", "code": -32005}, marks=pytest.mark.slow),
]


async def signed_again(stage: Stage, bets: list[Bet]) -> None:
    """Returns once a second attempt is durable."""

    async def twice() -> bool:
        return len(await stage.attempts(bets)) > 1

    await eventually("the batch is signed again", twice)


@pytest.mark.parametrize("kind", ["reset_after", "bad_body"])
@scenario
async def test_the_reply_is_lost_after_the_node_has_processed_the_transaction(stage: Stage, kind: str) -> None:
    await stage.fault(kind, methods=["sendTransaction"], **ONCE)
    bets = usual_bets()
    await stage.place(bets)

    await stage.decided(bets)

    assert await stage.faults_met(kind) == 1
    assert len(await stage.attempts(bets)) == 1, "the same bytes were sent again"
    await each_settled_once(stage, bets)


@scenario
async def test_the_node_takes_the_transaction_and_drops_it(stage: Stage) -> None:
    await stage.fault("drop", **ONCE)
    bets = usual_bets()
    await stage.place(bets)

    await stage.decided(bets)

    assert await stage.faults_met("drop") == 1
    assert len(await stage.attempts(bets)) == 1, "the same bytes were sent again"
    await each_settled_once(stage, bets)


@staged(slot_seconds=SHORT_SLOT_SECONDS)
async def test_the_blockhash_expires_before_any_attempt_has_landed(stage: Stage) -> None:
    await stage.fault("drop")
    bets = usual_bets()
    await stage.place(bets)
    await signed_again(stage, bets)
    await stage.mend()

    await stage.decided(bets)

    await each_settled_once(stage, bets)


@staged(slot_seconds=SHORT_SLOT_SECONDS)
async def test_the_blockhash_expires_after_the_first_attempt_has_landed_unseen(stage: Stage) -> None:
    """The node denies from then on that it knows the attempt; only the batch's record shows that it has landed."""
    death = stage.script.kill("ledger.broadcast", When.AFTER)
    bets = usual_bets()
    await stage.place(bets)
    await death.reached()
    await stage.fault("null_statuses")
    [attempt] = await stage.attempts(bets)
    looking = stage.script.hold("ledger.judge")
    await looking.reached()

    async def expired() -> bool:
        return (await stage.rpc.epoch_info("finalized")).block_height > attempt.last_valid_block_height

    await eventually("the attempt has expired", expired)
    looking.resume()

    await stage.decided(bets)

    assert await stage.attempts(bets) == [attempt]
    await each_settled_once(stage, bets)


@pytest.mark.parametrize("fault", BODY_FAULTS, ids=lambda fault: " ".join(map(str, fault.values())))
@scenario
async def test_the_node_answers_everything_with_errors_for_a_while(stage: Stage, fault: dict[str, object]) -> None:
    proven = stage.script.hold("prover.prove", When.AFTER)
    bets = usual_bets()
    await stage.place(bets)
    await proven.reached()
    await stage.fault(**fault)  # pyright: ignore[reportArgumentType]
    proven.resume()

    async def for_a_while() -> bool:
        return await stage.faults_met(str(fault["kind"])) >= A_WHILE

    await eventually("requests have gone wrong", for_a_while)
    await stage.mend()
    await stage.decided(bets)

    await each_settled_once(stage, bets)


@scenario
async def test_the_chain_stands_still_for_a_while(stage: Stage) -> None:
    sent = stage.script.hold("ledger.broadcast", When.AFTER)
    bets = usual_bets()
    await stage.place(bets)
    await sent.reached()
    await stage.fault("stuck")
    sent.resume()

    await stage.reaches(bets, BatchStatus.SUBMITTED)
    await eventually("the chain was asked in vain", lambda: _asked(stage, "after ledger.judge", times=10))
    assert (await stage.batch_status(bets)).status is BatchStatus.SUBMITTED, "nothing is decided by the clock"
    await stage.mend()
    await stage.decided(bets)

    assert len(await stage.attempts(bets)) == 1
    await each_settled_once(stage, bets)


async def _asked(stage: Stage, step: str, times: int) -> bool:
    return stage.script.passed.count(step) >= times


@staged(slot_seconds=LONG_SLOT_SECONDS)
async def test_a_fork_undoes_the_settlement_before_it_is_final(stage: Stage) -> None:
    """Being confirmed is not enough: the batch is called Confirmed only once the settlement that came in its place is final."""
    bets = usual_bets()
    await stage.place(bets)
    await eventually("the settlement is confirmed", lambda: stage.confirmed_record(1))
    [attempt] = await stage.attempts(bets)

    undone = await stage.fork_away(1)

    assert attempt.signature in undone
    assert (await stage.batch_status(bets)).status is not BatchStatus.CONFIRMED
    await stage.decided(bets)
    await each_settled_once(stage, bets)


@staged(slot_seconds=0.03)
async def test_a_fork_undoes_the_settlement_and_the_block_whose_hash_it_was_signed_over(stage: Stage) -> None:
    """The same bytes can never land again, which is proven only by finality far beyond."""
    signed = stage.script.hold("ledger.sign", When.AFTER)
    sent = stage.script.hold("ledger.broadcast", When.AFTER)
    bets = usual_bets()
    await stage.place(bets)
    await signed.reached()
    await stage.fault("stuck")
    signed.resume()
    await sent.reached()
    [attempt] = await stage.attempts(bets)
    tip = (await stage.rpc.epoch_info("processed")).block_height
    undone = await stage.call("croupierFork", {"depth": tip - attempt.last_valid_block_height + BLOCKHASH_BLOCKS_MAX})
    await stage.mend()
    sent.resume()

    await stage.decided(bets)

    assert attempt.signature in undone
    assert len(await stage.attempts(bets)) == 2
    await each_settled_once(stage, bets)


@staged(slot_seconds=LONG_SLOT_SECONDS, commitment="confirmed")
async def test_a_fork_undoes_a_settlement_that_was_called_confirmed(stage: Stage) -> None:
    """Where that is the operator's choice, the batch is watched until it is final, and lands again."""
    bets = usual_bets()
    await stage.place(bets)
    await stage.reaches(bets, BatchStatus.CONFIRMED)

    await stage.fork_away(1)

    assert await stage.confirmed_record(1) is None
    await eventually("the settlement is final", lambda: stage.final_record(1))
    await stage.batch_workflow(bets).result()
    await each_settled_once(stage, bets)


@pytest.mark.parametrize("node", [0, pytest.param(1, marks=pytest.mark.slow)])
@staged(further_nodes=1)
async def test_one_of_two_nodes_lags(stage: Stage, node: int) -> None:
    await stage.fault("behind", node=node, slots=30)
    bets = usual_bets()
    await stage.place(bets)

    await stage.decided(bets)
    await stage.mend()

    assert len(await stage.attempts(bets)) == 1
    await each_settled_once(stage, bets)


@staged(further_nodes=1)
async def test_one_of_two_nodes_lags_behind_what_covers_a_loss(stage: Stage) -> None:
    await stage.deposit(stage.vault(0), 2_000)
    await stage.fault("behind", node=0, slots=LAG_SLOTS)
    bets = [bet("bet-1", 0, DEPOSIT_LAMPORTS + 1_000)]
    await stage.place(bets)

    await stage.decided(bets)
    await stage.mend()

    await each_settled_once(stage, bets)


@staged(further_nodes=1, slot_seconds=SHORT_SLOT_SECONDS)
async def test_one_of_two_nodes_denies_the_attempt_that_has_landed(stage: Stage) -> None:
    """Signed anew is only what two nodes call dead."""
    await stage.fault("null_statuses", node=0)
    bets = usual_bets()
    await stage.place(bets)

    await stage.decided(bets)
    await stage.mend()

    assert len(await stage.attempts(bets)) == 1
    await each_settled_once(stage, bets)
