"""What only a person can mend, or a person does by mistake, ends or floods no workflow: each says what is wrong, and goes on."""

import asyncio
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from typing import Final

import pytest
from temporalio.client import WorkflowExecutionStatus
from temporalio.worker import Worker

from client.intake import TemporalIntake
from settlement.batches import BetStatus, Statement, batch_id
from settlement.bets import RejectionReason
from settlement.errors import CroupierError, JournalConflict, LedgerMisconfigured
from settlement.intake import Answer
from settlement.lanes import BatcherState
from settlement.lifecycle import BatchStatus
from settlement.limits import MAX_BETS_PER_UPDATE, MAX_REJECTED_PAYLOAD_CHARS
from tests.workflow.casino import LANE, PATIENCE_SECONDS, SETTINGS, Casino, as_json, bet, development_server, some_bets
from tests.workflow.fakes import HOUSE_BALANCE
from tests.workflow.test_bet import assert_included, progress, result_of
from tests.workflow.test_parking import WINS, parked
from tests.workflow.test_settlement import ALL_THE_WAY, statuses
from worker import WORKFLOWS
from workflows import names
from workflows.batcher import MAX_ANSWERED_DETAIL_CHARS, Batcher, BatcherInput
from workflows.settlement import Settlement

EVENTS: Final = 40
"""A lane under test continues as new after so many."""


@contextmanager
def without_rejections_table(casino: Casino) -> Generator[None, None, None]:
    """Lets the journal refuse rejections, and nothing else, as not being of this program's schema."""
    with closing(sqlite3.connect(casino.journal_path, isolation_level=None)) as other:
        other.execute("ALTER TABLE rejections RENAME TO mislaid")
        try:
            yield
        finally:
            other.execute("ALTER TABLE mislaid RENAME TO rejections")


async def test_a_lane_whose_rejections_the_journal_refuses_goes_on_settling_and_shows_the_trouble(
    casino: Casino,
) -> None:
    lane = await casino.open_lane(max_bets=4)
    before, meanwhile = some_bets(4, "before"), some_bets(8, "meanwhile")
    with without_rejections_table(casino):
        await casino.signal("no bet")

        async def trouble() -> str:
            return (await casino.status()).trouble

        assert (await casino.soon(trouble)).startswith("JournalMisconfigured: ")
        await casino.place_many(before)
        await casino.idle()
        await casino.signal({"number": 7})
        answers = await casino.place_many(meanwhile)
        assert {answer.answer for answer in answers} == {Answer.ACCEPTED}
        await casino.idle()
        await casino.assert_settled_once([*before, *meanwhile])
        assert (await casino.status()).trouble.startswith("JournalMisconfigured: ")
        assert (await lane.describe()).status is WorkflowExecutionStatus.RUNNING

    async def mended() -> bool:
        return len(await casino.journal.rejections(10)) == 2 and not (await casino.status()).trouble

    await casino.after_time(mended)
    assert [rejection.payload for rejection in await casino.rejections(2)] == ['"no bet"', '{"number":7}']
    assert (await casino.status()).counters.rejected == 2


@pytest.mark.parametrize("error", [LedgerMisconfigured("no such program"), JournalConflict("the roots differ")])
async def test_a_tracked_bet_whose_receipt_cannot_be_read_waits_and_gets_it_in_the_end(
    casino: Casino, error: CroupierError
) -> None:
    await casino.open_lane(max_bets=1)
    tracked = bet("tracked")
    await casino.place_many([tracked])
    await casino.idle()
    # From here on only the reading of the receipt asks for vaults.
    casino.ledger.script.fail("vaults", *[error] * 4)
    receipt = await result_of(casino, await casino.intake.track(tracked))
    assert casino.ledger.script.pending("vaults") == 0
    assert (receipt.status, receipt.bet) == ("settled", tracked)
    assert_included(casino, receipt)


async def test_a_tracked_bet_with_the_id_of_another_bet_in_the_journal_is_a_conflict_and_not_that_bet(
    casino: Casino,
) -> None:
    settled, sent = bet("twice"), bet("twice", stake=999)
    await casino.settle([settled])
    await casino.open_lane(max_bets=1)
    receipt = await result_of(casino, await casino.intake.track(sent))
    assert (receipt.status, receipt.reason, receipt.bet) == ("rejected", RejectionReason.CONFLICT, sent)
    assert (receipt.number, receipt.landing, receipt.inclusion) == (None, None, None)
    assert (await progress(casino, sent)).state == "rejected"
    assert (await casino.record_of(settled)).bet == settled
    await casino.idle()
    await casino.assert_settled_once([settled])


async def test_a_settlement_that_is_cancelled_while_it_proves_settles_its_bets(casino: Casino) -> None:
    await cancel_while_proving(casino)


async def test_a_settlement_that_is_cancelled_replays_the_same(uncached_casino: Casino) -> None:
    await cancel_while_proving(uncached_casino)


async def cancel_while_proving(casino: Casino) -> None:
    casino.prover.gate.clear()
    bets = some_bets(4)
    handle = await casino.start_batch(bets)
    await casino.being_proven()
    await handle.cancel()
    assert (await casino.batch_status(bets)).status is BatchStatus.PROVING
    casino.prover.gate.set()
    assert (await casino.result(handle)).status is BatchStatus.CONFIRMED
    assert await statuses(casino) == ALL_THE_WAY
    assert (casino.ledger.payments, len(casino.prover.proven)) == (1, 1)
    await casino.assert_settled_once(bets)


async def test_a_parked_settlement_that_is_cancelled_still_takes_a_retry(casino: Casino) -> None:
    casino.ledger.script.fail("judge", JournalConflict("the journal contradicts itself"))
    bets = some_bets(4)
    handle = await casino.start_batch(bets)
    await parked(casino)
    await handle.cancel()
    assert (await casino.batch_status(bets)).status is BatchStatus.FAILED
    await handle.signal(Settlement.retry)
    assert (await casino.result(handle)).settled == len(bets)
    assert casino.ledger.payments == 1
    await casino.assert_settled_once(bets)


async def test_a_lane_that_is_cancelled_settles_what_it_holds_and_takes_more(casino: Casino) -> None:
    lane = await casino.open_lane(max_bets=8)
    held, later = some_bets(5, "held"), some_bets(5, "later")
    await casino.place_many(held)
    await lane.cancel()
    assert (await casino.status()).queued == len(held)
    answers = await casino.place_many(later)
    assert {answer.answer for answer in answers} == {Answer.ACCEPTED}
    await casino.idle()
    assert (await lane.describe()).status is WorkflowExecutionStatus.RUNNING
    await casino.assert_settled_once([*held, *later])


async def test_a_cancelled_lane_continues_as_new_with_all_that_it_holds() -> None:
    # The development server, for the test server lets no cancelled run continue as new.
    async with (
        await development_server() as env,
        Worker(env.client, task_queue=names.SETTLEMENT_QUEUE, workflows=WORKFLOWS),
    ):
        settings = SETTINGS.model_copy(update={"continue_as_new_after_events": EVENTS, "max_bets": 16})
        intake = TemporalIntake(env.client, settings)
        lane = await env.client.start_workflow(
            Batcher.run,
            BatcherInput(lane=LANE, settings=settings, state=BatcherState(opened=True)),
            id=names.batcher_id(LANE),
            task_queue=names.SETTLEMENT_QUEUE,
        )
        await intake.place_many(LANE, as_json(some_bets(5)))
        first = (await lane.describe()).run_id
        await lane.cancel()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await lane.describe()).run_id == first:
                await lane.signal("resume")
        assert (await lane.describe()).status is WorkflowExecutionStatus.RUNNING
        assert (await intake.status(LANE)).queued == 5


@pytest.mark.parametrize("by_itself", [False, True])
async def test_an_attempt_that_failed_on_chain_for_want_of_a_house_is_followed_by_another_after_the_top_up(
    casino: Casino, *, by_itself: bool
) -> None:
    def empty(_: Statement) -> None:
        casino.ledger.on_broadcast = None
        casino.ledger.fund_house(LANE, 0)

    casino.ledger.on_broadcast = empty
    handle = await casino.start_batch(WINS)
    # By now it waits for minutes between its own tries.
    assert (await parked(casino, 9)).startswith("HouseUncovered")
    assert (casino.ledger.signed, casino.ledger.payments) == (1, 0)
    casino.ledger.fund_house(LANE, HOUSE_BALANCE)
    if not by_itself:
        await handle.signal(Settlement.retry)
    assert (await casino.result(handle)).settled == len(WINS)
    # It may have tried again by itself before the top-up.
    found = await statuses(casino)
    tries = (len(found) - len(ALL_THE_WAY)) // 4
    assert tries >= 9
    assert found == [
        *ALL_THE_WAY[:4],
        BatchStatus.FAILED,
        *[*ALL_THE_WAY[:3], BatchStatus.FAILED] * (tries - 1),
        *ALL_THE_WAY,
    ]
    (batch,) = await casino.batches()
    assert batch.transitions[-5].detail == ("trying again by itself" if by_itself else "retry asked for")
    assert [attempt.attempt for attempt in await casino.journal.attempts(batch_id(LANE, WINS))] == [0, 1]
    assert casino.ledger.payments == 1
    await casino.assert_settled_once(WINS)


async def test_an_update_of_bets_as_malformed_as_can_be_is_answered_in_bounds_and_recorded_in_full(
    casino: Casino,
) -> None:
    await casino.open_lane()
    # A control character takes the most room in JSON.
    field = "\x01" * 1_000
    sent = [{**good, field: 1} for good in as_json(some_bets(MAX_BETS_PER_UPDATE))]
    answers = await casino.update(sent)
    assert [(answer["answer"], answer["reason"]) for answer in answers] == [
        (Answer.REJECTED, RejectionReason.MALFORMED)
    ] * MAX_BETS_PER_UPDATE
    assert {len(answer["detail"]) for answer in answers} == {MAX_ANSWERED_DETAIL_CHARS}
    for rejection in await casino.rejections(MAX_BETS_PER_UPDATE):
        assert len(rejection.detail) >= MAX_REJECTED_PAYLOAD_CHARS
    good = bet("good")
    await casino.place_patiently([good])
    await casino.idle()
    await casino.assert_settled_once([good])
    assert (await casino.record_of(good)).status is BetStatus.SETTLED
    assert (await casino.status()).counters.rejected == MAX_BETS_PER_UPDATE
