"""What nobody but a person can mend parks a batch as Failed, with the reason; no bet is lost, and it goes on once it can."""

from typing import Any

import pytest

from operations.retrying import retry
from settlement.batches import Statement, batch_id
from settlement.errors import (
    CroupierError,
    HouseUncovered,
    JournalConflict,
    KeyRefused,
    LedgerMisconfigured,
    NotParked,
    ProofRejected,
    ProvingKeyMissing,
    SettlementRefused,
)
from settlement.lifecycle import BatchStatus
from tests.workflow.casino import LANE, Casino, bet, some_bets
from tests.workflow.fakes import HOUSE_BALANCE, Fate
from tests.workflow.test_settlement import ALL_THE_WAY, statuses
from workflows import visibility
from workflows.settlement import Settlement

WINS = [bet(f"win-{n}", player=n, stake=1_000, won=True) for n in range(3)]


async def parked(casino: Casino, times: int = 1) -> str:
    """Waits until the one batch has failed so many times and is not tried again just then, and returns why."""

    async def reason() -> str | None:
        steps = [step for batch in await casino.batches() for step in batch.transitions]
        failures = sum(step.status is BatchStatus.FAILED for step in steps)
        return steps[-1].detail if failures >= times and steps[-1].status is BatchStatus.FAILED else None

    return await casino.after_time(reason)


async def test_a_house_that_cannot_pay_parks_the_batch_until_it_is_topped_up(casino: Casino) -> None:
    casino.ledger.fund_house(LANE, 500)
    handle = await casino.start_batch(WINS)
    assert (await parked(casino)).startswith("HouseUncovered: the house of lane 0 cannot cover 3000 lamports")
    assert casino.ledger.payments == 0

    casino.ledger.fund_house(LANE, HOUSE_BALANCE)
    assert (await casino.result(handle)).status is BatchStatus.CONFIRMED
    assert (await statuses(casino))[:5] == [*ALL_THE_WAY[:3], BatchStatus.FAILED, BatchStatus.PENDING]
    assert (await statuses(casino))[-5:] == ALL_THE_WAY
    await casino.assert_settled_once(WINS)


async def test_a_house_emptied_before_the_attempt_landed_parks_the_batch_until_it_is_topped_up(casino: Casino) -> None:
    def empty(_: Statement) -> None:
        casino.ledger.on_broadcast = None
        casino.ledger.fund_house(LANE, 0)

    casino.ledger.on_broadcast = empty
    handle = await casino.start_batch(WINS)
    assert (await parked(casino)).startswith("HouseUncovered")
    casino.ledger.fund_house(LANE, HOUSE_BALANCE)
    await casino.result(handle)
    assert (await statuses(casino))[:6] == [*ALL_THE_WAY[:4], BatchStatus.FAILED, BatchStatus.PENDING]
    assert casino.ledger.payments == 1
    await casino.assert_settled_once(WINS)


@pytest.mark.parametrize(
    ("port", "method", "error"),
    [
        ("ledger", "vaults", LedgerMisconfigured("the program is gone")),
        ("ledger", "sign", LedgerMisconfigured("authority cannot pay: send it SOL")),
        ("ledger", "sign", LedgerMisconfigured("the program obeys another authority")),
        ("ledger", "sign", HouseUncovered("send it SOL")),
        ("ledger", "judge", LedgerMisconfigured("the program is gone")),
        ("prover", "prove", ProvingKeyMissing("no key for 16x8")),
        ("prover", "prove", KeyRefused("not the key that is registered")),
    ],
)
async def test_what_an_operator_mends_is_tried_again_by_itself(
    casino: Casino, port: str, method: str, error: CroupierError
) -> None:
    script = casino.ledger.script if port == "ledger" else casino.prover.script
    script.fail(method, *[error] * 6)
    bets = some_bets(4)
    handle = await casino.start_batch(bets)
    assert await parked(casino, 6) == f"{type(error).__name__}: {error}"
    assert (await casino.result(handle)).settled == len(bets)
    assert (await statuses(casino)).count(BatchStatus.FAILED) == 6
    assert casino.ledger.payments == 1
    await casino.assert_settled_once(bets)


async def test_a_lane_without_a_house_claims_nothing_until_it_has_one(casino: Casino) -> None:
    del casino.ledger.houses[LANE]
    bets = some_bets(4)
    handle = await casino.start_batch(bets)
    await casino.reaches(bets, BatchStatus.FAILED)
    assert (await casino.batch_status(bets)).transitions[-1].detail == "LedgerMisconfigured: lane 0 has no house"
    assert await casino.batches() == []
    casino.ledger.houses[LANE] = HOUSE_BALANCE
    assert (await casino.result(handle)).settled == len(bets)
    await casino.assert_settled_once(bets)


async def test_a_parked_batch_shows_why_by_query_search_attribute_and_details(casino: Casino) -> None:
    casino.ledger.script.fail("sign", SettlementRefused("the program refuses"))
    bets = some_bets(4)
    handle = await casino.start_batch(bets)
    why = await parked(casino)
    await casino.reaches(bets, BatchStatus.FAILED)
    status = await casino.batch_status(bets)
    assert (status.transitions[-1].status, status.transitions[-1].detail) == (BatchStatus.FAILED, why)
    found = (await handle.describe()).typed_search_attributes
    assert found.get(visibility.BATCH_STATUS) == BatchStatus.FAILED
    metadata: Any = await handle.query("__temporal_workflow_metadata")
    assert why in metadata.current_details
    await handle.signal(Settlement.retry)
    await casino.result(handle)


async def test_a_batch_that_a_broken_journal_did_not_take_is_claimed_once_it_is_mended(casino: Casino) -> None:
    bets = some_bets(4)
    with casino.broken_journal():
        handle = await casino.start_batch(bets)
        await casino.reaches(bets, BatchStatus.FAILED)
        shown = (await casino.batch_status(bets)).transitions[-1]
        assert "JournalMisconfigured" in shown.detail
        assert (await casino.batch_status(bets)).number is None
    assert (await casino.result(handle)).status is BatchStatus.CONFIRMED
    assert await statuses(casino) == ALL_THE_WAY
    await casino.assert_settled_once(bets)


async def test_retry_wakes_a_parked_batch_at_once(casino: Casino) -> None:
    casino.ledger.fund_house(LANE, 0)
    handle = await casino.start_batch(WINS)
    # By now it waits for minutes between its own tries.
    await parked(casino, 9)
    casino.ledger.fund_house(LANE, HOUSE_BALANCE)
    await handle.signal(Settlement.retry)
    await casino.reaches(WINS, BatchStatus.CONFIRMED)
    (batch,) = await casino.batches()
    assert "retry asked for" in [step.detail for step in batch.transitions]
    await casino.assert_settled_once(WINS)


@pytest.mark.parametrize(
    ("port", "method", "error"),
    [
        ("prover", "prove", ProofRejected("the proof does not verify")),
        ("ledger", "sign", SettlementRefused("the program refuses")),
        ("ledger", "judge", JournalConflict("another landing")),
    ],
)
async def test_what_nobody_foresaw_parks_the_batch_until_retry(
    casino: Casino, port: str, method: str, error: CroupierError
) -> None:
    script = casino.ledger.script if port == "ledger" else casino.prover.script
    script.fail(method, error)
    bets = some_bets(4)
    handle = await casino.start_batch(bets)
    assert await parked(casino) == f"{type(error).__name__}: {error}"
    await casino.pass_time(7 * 86_400)
    assert (await casino.batch_status(bets)).status is BatchStatus.FAILED

    await handle.signal(Settlement.retry)
    assert (await casino.result(handle)).settled == len(bets)
    assert casino.ledger.payments == 1
    await casino.assert_settled_once(bets)


async def test_a_parked_batch_whose_attempt_may_still_land_is_judged_and_not_signed_again(casino: Casino) -> None:
    casino.ledger.fates.append(Fate.WAITS)
    bets = some_bets(4)
    casino.ledger.script.fail("judge", JournalConflict("the journal contradicts itself"))
    handle = await casino.start_batch(bets)
    await parked(casino)
    casino.ledger.release()
    await handle.signal(Settlement.retry)
    assert (await casino.result(handle)).settled == len(bets)
    assert casino.ledger.signed == 1
    assert await statuses(casino) == [
        *ALL_THE_WAY[:4],
        BatchStatus.FAILED,
        BatchStatus.SUBMITTED,
        BatchStatus.CONFIRMED,
    ]
    await casino.assert_settled_once(bets)


async def test_retry_of_a_batch_that_is_not_parked_changes_nothing(casino: Casino) -> None:
    casino.ledger.fates.append(Fate.WAITS)
    bets = some_bets(4)
    handle = await casino.start_batch(bets)
    await casino.reaches(bets, BatchStatus.SUBMITTED)
    await handle.signal(Settlement.retry)
    await handle.signal("retry", args=["now", "please"])
    casino.ledger.release()
    await casino.result(handle)
    assert await statuses(casino) == ALL_THE_WAY


async def test_an_operator_s_retry_is_sent_to_a_parked_batch_only(casino: Casino) -> None:
    casino.prover.script.fail("prove", ProofRejected("the proof does not verify"))
    casino.ledger.fates.append(Fate.WAITS)
    bets = some_bets(4)
    handle = await casino.start_batch(bets)
    await parked(casino)
    await retry(casino.client, handle.id)
    await casino.reaches(bets, BatchStatus.SUBMITTED)
    with pytest.raises(NotParked, match="is Submitted: only"):
        await retry(casino.client, handle.id)
    casino.ledger.release()
    await casino.result(handle)
    with pytest.raises(NotParked, match="is Confirmed, its workflow has ended: only"):
        await retry(casino.client, handle.id)


async def test_a_parked_batch_leaves_the_lane_s_other_batches_alone(casino: Casino) -> None:
    casino.prover.script.fail("prove", ProofRejected("the proof does not verify"))
    await casino.open_lane(max_bets=2, window_seconds=1.0)
    bets = some_bets(6)
    await casino.place_many(bets)

    async def others_confirmed() -> bool:
        found = [batch.status for batch in await casino.batches()]
        return sorted(found) == [BatchStatus.CONFIRMED, BatchStatus.CONFIRMED, BatchStatus.FAILED]

    await casino.soon(others_confirmed)
    status = await casino.status()
    (stuck,) = status.in_flight
    await casino.client.get_workflow_handle(stuck).signal("retry")
    await casino.idle()
    await casino.assert_settled_once(bets)


async def test_a_failed_batch_keeps_its_id_and_number_through_its_retries(casino: Casino) -> None:
    casino.prover.script.fail("prove", *[ProvingKeyMissing("no key")] * 3)
    bets = some_bets(2)
    result = await casino.settle(bets)
    assert (result.batch_id, result.number) == (batch_id(LANE, bets), 1)
    assert len(await casino.batches()) == 1
