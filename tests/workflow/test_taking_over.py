"""A lane whose Batcher was ended and started afresh: the new run takes over all that the old one had, before it answers or cuts."""

import base64
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import WorkflowUpdateFailedError
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError

from settlement.batches import batch_id
from settlement.bets import Bet, Rejection, RejectionReason
from settlement.errors import LaneUnavailable, PredecessorUnread
from settlement.intake import Answer
from settlement.lanes import BatcherState, Cut, Estate, KnownBet, QueuedBet, UnheardSignal
from tests.workflow.casino import LANE, Casino, as_json, bet, some_bets
from tests.workflow.test_continue_as_new import EVENTS, run_id, signal_until_continued
from workflows.batcher import KNOWN_DIGEST_BYTES, Batcher
from workflows.settlement import ClosedBatch

LONG_AGO: Final = datetime(2020, 1, 31, 12, tzinfo=UTC)
UNREAD: Final = PredecessorUnread("it cannot be replayed")


def queued(bets: list[Bet]) -> list[QueuedBet]:
    return [QueuedBet(bet=bet, since=LONG_AGO, tracked=False) for bet in bets]


def holding(bets: list[Bet], **fields: Any) -> BatcherState:
    """The state of an opened lane that had these bets in its queue."""
    known = {bet.bet_id: KnownBet(digest=bet.digest[:KNOWN_DIGEST_BYTES].hex(), batch_id=None) for bet in bets}
    return BatcherState(queue=queued(bets), known=known, opened=True).model_copy(update=fields)


def inherit(casino: Casino, *states: BatcherState) -> None:
    """Lets the lane have had runs that were ended with these states, the latest first."""
    casino.predecessors.estates = [Estate(run_id=f"run-{n}", state=state) for n, state in enumerate(states)]


def rejection(rejection_id: str) -> Rejection:
    return Rejection(
        rejection_id=rejection_id,
        lane=LANE,
        bet_id=None,
        reason=RejectionReason.MALFORMED,
        detail="",
        payload="",
        at=LONG_AGO,
    )


async def unheard(name: str, argument: object) -> UnheardSignal:
    (payload,) = await pydantic_data_converter.encode([argument])
    return UnheardSignal(name=name, arguments=(base64.b64encode(payload.SerializeToString()).decode(),))


async def trouble(casino: Casino) -> str:
    async def found() -> str:
        return (await casino.status()).trouble

    return await casino.soon(found)


async def test_queue_known_bets_pause_counters_and_rejections_are_taken_over(casino: Casino) -> None:
    bets = some_bets(5)
    state = holding(bets, paused=True)
    state.known["cut"] = KnownBet(digest=bet("cut").digest[:KNOWN_DIGEST_BYTES].hex(), batch_id="settlement-0-old")
    state.counters.accepted = 77
    inherit(casino, state)
    casino.predecessors.rejected["run-0"] = [rejection(str(n)) for n in range(3)]
    lane = await casino.open_lane(window_seconds=0.1)

    status = await casino.status()
    assert (status.queued, status.paused, status.counters.accepted) == (5, True, 77)
    assert [kept.rejection_id for kept in await casino.journal.rejections(9)] == ["0", "1", "2"]
    known, conflict, cut = await casino.place_many([bets[4], bet("bet-3", stake=999), bet("cut")])
    assert (known.answer, conflict.reason) == (Answer.DUPLICATE, RejectionReason.CONFLICT)
    assert (cut.answer, cut.batch_id) == (Answer.DUPLICATE, "settlement-0-old")
    assert await casino.batches() == []
    await lane.signal(Batcher.resume)
    await casino.idle()
    await casino.assert_settled_once(bets)


async def test_nothing_is_answered_or_cut_before_the_old_queue_is_known_and_signals_are_kept(casino: Casino) -> None:
    first, second = bet("first"), bet("second")
    inherit(casino, holding([first, second]))
    casino.predecessors.script.fail("latest", UNREAD)
    casino.predecessors.script.fail("estate", UNREAD)
    await casino.start_lane(max_bets=2, window_seconds=0.1)
    assert (await trouble(casino)).startswith("PredecessorUnread: it cannot be replayed")
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await casino.update(as_json([bet("third")]))
    assert isinstance(refused.value.cause, ApplicationError)
    assert refused.value.cause.type == LaneUnavailable.__name__
    # Enough for two batches; a duplicate and a conflict among them.
    await casino.signal(bet("third"))
    await casino.signal(second)
    await casino.signal(bet("first", stake=999))
    assert (await casino.status()).queued == 3
    assert (casino.predecessors.script.calls.count("latest"), await casino.batches()) == (1, [])

    (conflict,) = await casino.rejections(1) if await casino.idle() else []
    assert (conflict.bet_id, conflict.reason) == ("first", RejectionReason.CONFLICT)
    assert await casino.bet_ids() == [["first", "second"], ["third"]]
    await casino.assert_settled_once([first, second, bet("third")])
    assert (await casino.status()).trouble == ""


async def test_runs_that_were_ended_before_they_had_taken_over_are_taken_over_too_in_the_order_of_their_bets(
    casino: Casino,
) -> None:
    oldest, middle, latest = some_bets(2, "oldest"), some_bets(2, "middle"), [*some_bets(1, "latest"), bet("middle-0")]
    inherit(
        casino,
        holding(latest, opened=False),
        holding([*middle, bet("oldest-1", stake=999)], opened=False, pause_asked=False),
        holding(oldest, paused=True),
        holding(some_bets(3, "settled-long-ago")),
    )
    await casino.start_lane(window_seconds=0.1)
    await casino.idle()
    kept = [*oldest, *middle, *latest[:1]]
    assert await casino.bet_ids() == [[bet.bet_id for bet in kept]]
    assert {refused.bet_id for refused in await casino.rejections(2)} == {"oldest-1", "middle-0"}
    await casino.assert_settled_once(kept)


async def test_signals_that_no_worker_ever_heard_are_heard(casino: Casino) -> None:
    casino.prover.gate.clear()
    running = some_bets(2, "running")
    await casino.start_batch(running)
    state = holding(some_bets(1), in_flight={batch_id(LANE, running): 2})
    casino.predecessors.estates = [Estate(run_id="run-0", state=state, unheard=True)]
    casino.predecessors.signals["run-0"] = [
        await unheard("place_bet", as_json([bet("bet-0")])[0]),
        await unheard("configure", {"max_bets": 1}),
        await unheard("place_bet", {"bet_id": 7}),
        await unheard("pause", None),
        UnheardSignal(name="nonsense", arguments=(base64.b64encode(Payload().SerializeToString()).decode(),)),
        UnheardSignal(
            name="settlement_closed",
            arguments=(base64.b64encode(Payload(data=b"no JSON").SerializeToString()).decode(),),
        ),
        await unheard("settlement_closed", ClosedBatch(batch_id=batch_id(LANE, running))),
        await unheard("place_bet", as_json([bet("by-signal", player=1)])[0]),
    ]
    await casino.open_lane()
    status = await casino.status()
    assert (status.queued, status.paused, status.in_flight, status.settings.max_bets) == (2, True, {}, 8)
    assert len(await casino.rejections(3)) == 3
    casino.prover.gate.set()


async def test_a_slot_is_taken_over_only_for_a_batch_that_is_not_done(casino: Casino) -> None:
    done, told, running, ended = (some_bets(2, name) for name in ("done", "told", "running", "ended"))
    await casino.settle(done)
    casino.prover.gate.clear()
    for bets in (told, running):
        await casino.start_batch(bets)
    await (await casino.start_batch(ended)).terminate()
    ids = [batch_id(LANE, bets) for bets in (done, told, running, ended)]
    inherit(casino, holding([], in_flight=dict.fromkeys(ids, 2)))
    casino.predecessors.script.fail("latest", UNREAD)
    await casino.start_lane()
    await trouble(casino)
    await casino.batcher().signal("settlement_closed", ClosedBatch(batch_id=ids[1]))

    async def opened() -> bool:
        return (await casino.status()).opened

    await casino.after_time(opened)
    # For what was terminated the reconciliation looks by this slot.
    assert list((await casino.status()).in_flight) == [ids[2], ids[3]]
    casino.prover.gate.set()


@pytest.mark.parametrize("started", [False, True])
async def test_a_batch_whose_settlement_may_not_have_started_is_started_and_settled_once(
    casino: Casino, *, started: bool
) -> None:
    bets = some_bets(3)
    if started:
        await casino.settle(bets)
    state = holding([], cut=Cut(bets=queued(bets), after=()), in_flight={batch_id(LANE, bets): 3})
    inherit(casino, state)
    await casino.open_lane()
    await casino.idle()
    await casino.assert_settled_once(bets)


async def test_a_run_that_temporal_has_forgotten_is_told_of_until_a_person_has_seen_it(casino: Casino) -> None:
    casino.predecessors.estates = [Estate(run_id="run-0", state=None, lost="Temporal has forgotten run-0")]
    lane = await casino.open_lane(window_seconds=0.1)
    assert "bets may be lost" in await trouble(casino)
    await casino.place_many([bet("new")])
    await casino.idle()
    assert "Temporal has forgotten run-0" in (await casino.status()).trouble
    await lane.signal(Batcher.start_afresh)
    assert (await casino.status()).trouble == ""


async def test_what_cannot_be_read_is_given_up_only_by_a_person(casino: Casino) -> None:
    casino.predecessors.script.fail("latest", *[UNREAD] * 50)
    await casino.start_lane(window_seconds=0.1)
    await trouble(casino)
    await casino.signal(bet("kept"))
    await casino.pass_time(3_600)
    assert not (await casino.status()).opened
    await casino.batcher().signal(Batcher.start_afresh)
    await casino.idle()
    status = await casino.status()
    assert status.opened
    assert status.trouble.startswith("bets may be lost")
    assert "it cannot be replayed" in status.trouble
    await casino.assert_settled_once([bet("kept")])


async def test_a_run_that_continues_another_does_not_look_back(casino: Casino) -> None:
    inherit(casino, holding(some_bets(3), paused=True))
    await casino.open_lane(continue_as_new_after_events=EVENTS)
    calls = list(casino.predecessors.script.calls)
    await signal_until_continued(casino, "pause")
    assert (await casino.status()).queued == 3
    assert casino.predecessors.script.calls == calls


async def test_a_lane_that_continues_as_new_before_it_has_taken_over_still_does(casino: Casino) -> None:
    old = some_bets(3, "old")
    inherit(casino, holding(some_bets(2, "middle"), opened=False), holding(old, paused=True))
    casino.predecessors.script.fail("estate", UNREAD)
    await casino.start_lane(continue_as_new_after_events=EVENTS, window_seconds=0.1)
    await trouble(casino)
    first = await run_id(casino.batcher())
    await casino.signal(bet("new"))
    await signal_until_continued(casino, "resume")
    await casino.idle()
    assert await run_id(casino.batcher()) != first
    await casino.assert_settled_once([*old, *some_bets(2, "middle"), bet("new")])
