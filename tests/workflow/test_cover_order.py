"""A loss that an earlier batch's win covers is settled, in whatever order claims, confirmations and readings come about."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from temporalio.client import WorkflowHandle

from activities import claiming
from settlement.batches import BetStatus, Claim, ClaimedBatch, batch_id
from settlement.bets import Bet
from settlement.lifecycle import BatchStatus
from tests.workflow.casino import LANE, PLAYERS, Casino, bet
from tests.workflow.fakes import Fate
from tests.workflow.stalled import PATIENCE_SECONDS, Stalled
from workflows import names
from workflows.settlement import Settlement, SettlementInput, SettlementResult

WIN = [bet("win", stake=100, won=True)]
LOSS = [bet("loss", stake=100)]
GONE = "settlement-0-00000000000000000000000000000000"


@pytest.fixture(autouse=True)
def short_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    # The server skips no time while an activity waits.
    monkeypatch.setattr(claiming, "PREDECESSOR_SECONDS", 0.05)
    monkeypatch.setattr(claiming, "POLL_SECONDS", 0.01)


@pytest.fixture(autouse=True)
def without_a_lamport(casino: Casino) -> None:
    casino.ledger.fund_vault(LANE, PLAYERS[0], 0)


async def start_after(
    casino: Casino, bets: Sequence[Bet], after: Sequence[str]
) -> WorkflowHandle[Any, SettlementResult]:
    """Starts a Settlement as a Batcher does that has cut other batches before."""
    return await casino.client.start_workflow(
        Settlement.run,
        SettlementInput(lane=LANE, bets=tuple(bets), after=tuple(after)),
        id=batch_id(LANE, bets),
        task_queue=names.SETTLEMENT_QUEUE,
    )


async def waits_for(casino: Casino, bets: Sequence[Bet], what: str) -> None:
    """Waits until the batch says that it waits for `what`."""

    async def waiting() -> bool:
        return what in (await casino.batch_status(bets)).waiting_for

    await casino.soon(waiting)


async def test_a_batch_is_claimed_after_those_cut_before_it_and_its_loss_is_covered_by_theirs(casino: Casino) -> None:
    later = await start_after(casino, LOSS, [batch_id(LANE, WIN)])
    await waits_for(casino, LOSS, batch_id(LANE, WIN))
    assert await casino.batches() == []
    earlier = await casino.start_batch(WIN)
    first, second = await casino.result(earlier), await casino.result(later)
    assert ((first.number, first.settled), (second.number, second.settled)) == ((1, 1), (2, 1))
    assert second.refused == 0
    await casino.assert_settled_once([*WIN, *LOSS])


async def test_a_lane_s_batches_are_claimed_in_the_order_of_their_cuts(
    casino: Casino, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, let_go = casino.journal.claim, asyncio.Event()

    async def held(asked: Claim) -> ClaimedBatch:
        if asked.batch_id == batch_id(LANE, WIN):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await let_go.wait()
        return await claim(asked)

    monkeypatch.setattr(casino.journal, "claim", held)
    await casino.open_lane(max_bets=1)
    await casino.place_many([*WIN, *LOSS])

    async def both_cut() -> bool:
        return len((await casino.status()).in_flight) == 2

    await casino.soon(both_cut)
    await waits_for(casino, LOSS, batch_id(LANE, WIN))
    assert await casino.batches() == []
    let_go.set()
    await casino.idle()
    assert await casino.bet_ids() == [["win"], ["loss"]]
    await casino.assert_settled_once([*WIN, *LOSS])


async def test_a_batch_does_not_wait_for_ever_for_one_that_is_never_claimed(casino: Casino) -> None:
    covered = [bet("covered", player=1)]
    handle = await start_after(casino, covered, [GONE])
    await waits_for(casino, covered, GONE)
    result = await casino.result(handle)
    assert (result.status, result.number, result.settled) == (BatchStatus.CONFIRMED, 1, 1)
    await casino.assert_settled_once(covered)


async def test_a_loss_is_judged_by_what_the_vault_holds_once_the_earlier_batches_are_final(
    casino: Casino, monkeypatch: pytest.MonkeyPatch
) -> None:
    casino.ledger.fates.append(Fate.WAITS)
    await casino.start_batch(WIN)
    await casino.reaches(WIN, BatchStatus.SUBMITTED)
    reading = Stalled(monkeypatch, casino.ledger, "vaults")
    later = await casino.start_batch(LOSS)
    await reading.reached()
    casino.ledger.release()

    async def confirmed() -> bool:
        return (await casino.record_of(WIN[0])).status is BetStatus.SETTLED

    await casino.soon(confirmed)
    # The balance of before the win is answered only now, when no earlier batch is to be waited for any more.
    reading.resume()
    result = await casino.result(later)
    assert (result.settled, result.refused) == (1, 0)
    assert (await casino.record_of(LOSS[0])).status is BetStatus.SETTLED
    await casino.assert_settled_once([*WIN, *LOSS])
