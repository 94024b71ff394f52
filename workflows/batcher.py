"""A lane's queue: takes bets through three doors, removes duplicates, and cuts batches by size, players, money and age.

One state object holds everything and is carried whole through continue-as-new. Handlers add to it and never raise; the main loop
alone takes bets from it. A run that begins afresh, its predecessor having been terminated, first takes over what that has left behind:
until then it answers no update and cuts nothing.
"""

import asyncio
import base64
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue, SearchAttributePair, TypedSearchAttributes, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError, FailureError, WorkflowAlreadyStartedError
from temporalio.workflow import ParentClosePolicy

with workflow.unsafe.imports_passed_through():
    from activities.parking import ParkedRequest, ParkingPlace, ParkRequest, UnparkRequest
    from activities.recording import Recording
    from activities.taking_over import OVERFLOW_PER_PAGE, OverflowRequest, TakingOver, UnheardRequest
    from settlement.bets import Bet, Rejection, RejectionReason, excerpt, lane_of, parse_bet
    from settlement.breaker import MAX_REASON_CHARS, BreakerStatus
    from settlement.errors import InvalidBet, LaneSaturated, LaneUnavailable
    from settlement.intake import Answer, BetOutcome
    from settlement.lane_queue import MAX_BETS_PER_PARKING, MIN_BETS_PER_PARKING, LaneQueue, known_digest
    from settlement.lanes import (
        BatcherState,
        Counters,
        Cut,
        Estate,
        LaneState,
        LookBack,
        QueuedBet,
        UnheardSignal,
        UnheardSignals,
    )
    from settlement.lifecycle import BatchStatus
    from settlement.limits import (
        DEFAULT_BREAKER_AFTER,
        MAX_BATCHES_IN_FLIGHT,
        MAX_BETS_PER_UPDATE,
        MAX_LANE,
        MAX_WINDOW_SECONDS,
    )
    from settlement.shapes import DEFAULT_SHAPE, SHAPES
    from workflows import mending, names, policies, run_length, visibility
    from workflows.lane_metrics import LaneMetrics
    from workflows.payloads import NOTHING, decoded, only_argument, text_of
    from workflows.run_length import RunLength
    from workflows.settlement import ClosedBatch, Settlement, SettlementInput, StuckBatch

MAX_ANSWERED_DETAIL_CHARS: Final = 200
"""Of a rejection's detail in an update's answer; the journal has more. Ten updates' answers fit one completed workflow task (4 MB)."""

REJECTIONS_BYTES_PER_WRITE: Final = 1_000_000
"""Half of what Temporal takes as an activity's input."""

MAX_CARRIED_REJECTIONS: Final = 40
MAX_CARRIED_OVERFLOW: Final = MAX_BETS_PER_PARKING
"""More than these must be in the journal before continue-as-new, whose payload is limited to 2 MB: a rejection takes 12 KB at its worst."""

MAX_BETS_STARTING: Final = 512
"""Of batches whose Settlements are started at once."""

EVENTS_WITHOUT_UPDATE: Final = 20
"""After so many events a lane counts as one that gets no updates."""

UPDATES_AFTER_ENDS: Final = 2
"""The second update after a batch has ended is the moment to continue as new."""

URGENT: Final = 1.2
"""So much longer than it should be, a run no longer waits for that moment."""

FIRST_INHERITED_PAUSE: Final = timedelta(seconds=10)
LONGEST_INHERITED_PAUSE: Final = timedelta(minutes=10)
"""After which it is asked about batches that another run has started: soon at first, for one may have ended unheard, then more rarely."""

MAX_SIGNALS_PER_RUN: Final = 2_500
"""A quarter of what Temporal allows a run, so that continue-as-new comes in time however many come meanwhile."""


MAX_BATCH_ID_CHARS: Final = 64
MAX_REMEMBERED_ENDS: Final = 1_000
"""Of batches that told their end before the lane had taken over their slots; the reconciliation frees what is forgotten."""

TAKES_OVER: Final = "takes over from the run before (if that lasts: see its activities in Temporal's Web UI)"

A_MOMENT: Final = timedelta(milliseconds=1)
"""The least that a timer is set for."""

ESTATE_BYTES: Final = 500_000
"""What a lane leaves to the next, at a guess: its queue and what it remembers."""

LONG_OPENING: Final = timedelta(minutes=1)
"""A person may give up what the lane takes over once that has failed or has lasted so long. An earlier word was meant for another run."""


Request = TypeVar("Request")
Result = TypeVar("Result")


class BatcherSettings(BaseModel):
    """What an operator sets for a lane, within what a batch can be cut by; a `configure` beyond that is dropped and logged.

    `continue_as_new_after_events`: a lower bound than `run_length.MAX_EVENTS`, for tests.
    """

    model_config = ConfigDict(frozen=True)

    lanes: Annotated[int, Field(ge=1, le=MAX_LANE + 1)] = 1
    window_seconds: Annotated[float, Field(gt=0, le=MAX_WINDOW_SECONDS)] = 5.0
    max_bets: Annotated[int, Field(ge=1, le=SHAPES[-1].bets)] = DEFAULT_SHAPE.bets
    max_players: Annotated[int, Field(ge=1, le=SHAPES[-1].players)] = DEFAULT_SHAPE.players
    max_in_flight: Annotated[int, Field(ge=1, le=MAX_BATCHES_IN_FLIGHT)] = 8
    breaker_after: Annotated[int, Field(ge=1, le=MAX_BATCHES_IN_FLIGHT)] = DEFAULT_BREAKER_AFTER
    continue_as_new_after_events: int | None = None


class BatcherInput(BaseModel):
    """A lane's number, settings, and the state of the run before. `begun`: when the first of the runs began that continue each other."""

    lane: int
    settings: BatcherSettings
    state: BatcherState = Field(default_factory=BatcherState)
    begun: datetime | None = None


class BatcherStatus(BaseModel):
    """The answer to the `status` query. `in_flight`: bets by batch id. `trouble`: what a person must mend, or nothing.

    `parked`: signalled bets behind the queue, most of them in the journal. `breaker`: whether stuck settlements stop it from cutting more.

    `opened`: it has taken over what the run before may have left behind, and takes bets.
    """

    model_config = ConfigDict(frozen=True)

    lane: int
    opened: bool
    paused: bool
    queued: int
    parked: int
    breaker: BreakerStatus
    in_flight: dict[str, int]
    counters: Counters
    trouble: str
    settings: BatcherSettings


@workflow.defn
class Batcher:
    """Workflow `batcher-<lane>`: update `place_bets`, signals `place_bet`, `pause`, `resume`, `start_afresh`, query `status`."""

    @workflow.init
    def __init__(self, request: BatcherInput) -> None:
        self._lane = request.lane
        self._settings = request.settings
        self._take_state(request.state)
        self._metrics = LaneMetrics(self._lane, self._state.counters)
        self._begun = request.begun or workflow.info().workflow_start_time
        self._length = RunLength()
        self._updated_at, self._events_at_update = 0, 0
        self._updates_since_end = 0
        self._trouble: dict[str, str] = {}
        self._shown_state: LaneState | None = None
        self._unread = ""
        self._waited_until: datetime | None = None
        self._long_opening: asyncio.Task[None] | None = None
        self._hearing = False
        self._own: set[str] = set()

    @workflow.run
    async def run(self, request: BatcherInput) -> None:  # noqa: ARG002 - the state was taken up in __init__
        self._shown_state = self._lane_state()
        visibility.show(visibility.LANE.value_set(self._lane), visibility.LANE_STATE.value_set(self._shown_state.value))
        await mending.uncancellable(self._work())

    async def _work(self) -> None:
        beside = asyncio.gather(
            self._write_rejections(),
            self._take_over(),
            self._keep_overflow(),
            self._watch_inherited(),
            self._keep_showing(),
        )
        while not beside.done():
            await self._wait_for_work(beside)
            await self._cut()
            if self._may_continue_as_new():
                self._show()
                # All handlers are synchronous, so none is unfinished here; nothing may be awaited before the next line.
                workflow.continue_as_new(
                    BatcherInput(lane=self._lane, settings=self._settings, state=self._state, begun=self._begun)
                )
        # They never end: whatever has ended them must fail the workflow's task, and not end the lane, as a `FailureError` would.
        try:
            await beside
        except FailureError as error:
            raise RuntimeError(f"lane {self._lane} cannot go on: {error}") from error

    def _take_state(self, state: BatcherState) -> None:
        self._state = state
        self._queue = LaneQueue(state, max_bets=self._settings.max_bets, max_players=self._settings.max_players)

    # The three doors.

    @workflow.update(name=names.PLACE_BETS)
    def place_bets(self, bets: Any) -> list[BetOutcome]:
        """Takes many bets as JSON; each is answered by itself: accepted, duplicate or rejected with its reason."""
        self._length.add_update()
        self._updates_since_end += 1
        self._updated_at, self._events_at_update = workflow.info().get_current_history_length(), self._length.events
        return [self._take(bet, sent_as=bet) for bet in bets]

    @place_bets.validator
    def _can_place_bets(self, bets: Any) -> None:
        if not isinstance(bets, list):
            raise ApplicationError("place_bets takes a list of bets", type=InvalidBet.__name__, non_retryable=True)
        count = len(bets)  # pyright: ignore[reportUnknownArgumentType]
        if count > MAX_BETS_PER_UPDATE:
            raise ApplicationError(
                f"place_bets takes up to {MAX_BETS_PER_UPDATE} bets, not {count}",
                type=InvalidBet.__name__,
                non_retryable=True,
            )
        self._check_room(count)

    @workflow.signal(dynamic=True)
    def place_bet(self, signal: str, arguments: Sequence[RawValue]) -> None:
        """Takes one bet as JSON. Nothing that is sent can make it fail; what is not accepted is recorded with its reason.

        Dynamic, for only so can a signal have any number of arguments, and a signal of an unknown name be recorded too.
        """
        payload = arguments[0] if arguments else NOTHING
        self._length.add_signal(sum(argument.payload.ByteSize() for argument in arguments))
        try:
            if signal != names.PLACE_BET:
                raise InvalidBet(RejectionReason.MALFORMED, f"there is no signal {excerpt(signal)}", None)
            if len(arguments) > 1:
                raise InvalidBet(
                    RejectionReason.MALFORMED, f"{names.PLACE_BET} takes one bet, not {len(arguments)}", None
                )
            bet = parse_bet(decoded(payload))
        except InvalidBet as error:
            self._reject(RejectionReason(error.reason), error.detail, error.bet_id, payload)
            return
        self._take(bet, sent_as=payload, may_wait_behind=True)

    @workflow.update(name=names.PLACE_TRACKED_BET)
    def place_tracked_bet(self, bet: Bet) -> BetOutcome:
        """The door of `Bet` workflows: as `place_bets`, and the batch will tell `bet-<bet_id>` how it goes."""
        self._length.add_update()
        return self._take(bet, sent_as=bet, tracked=True)

    @place_tracked_bet.validator
    def _can_place_tracked_bet(self, bet: Bet) -> None:  # noqa: ARG002
        self._check_room(1)

    # Operating the lane. These take any arguments: one too many or too few would fail every workflow task from then on.

    @workflow.signal
    def pause(self, *_: Any) -> None:
        """Stops cutting batches; bets are still taken in until the lane is saturated."""
        self._length.add_signal()
        self._set_paused(True)

    @workflow.signal
    def resume(self, *_: Any) -> None:
        """Ends a pause."""
        self._length.add_signal()
        self._set_paused(False)

    def _set_paused(self, paused: bool) -> None:
        self._state.paused = paused
        if not self._state.opened:
            self._state.pause_asked = paused

    @workflow.signal
    def start_afresh(self, *_: Any) -> None:
        """A person's word that the lane goes on without what it cannot take over. Once it is open: that he has seen what was lost.

        That word may come late: a lane that has just begun to take over, and has met no trouble, does not take it for the other.
        """
        self._length.add_signal()
        if self._state.opened:
            self._state.lost = []
        elif self._unread or self._is_long_opening():
            self._open_without(f"given up by a person: {self._unread or 'before it was read'}")
        else:
            workflow.logger.warning("lane %s takes over as yet, nothing is given up", self._lane)

    @workflow.signal
    def configure(self, *arguments: Any) -> None:
        """Takes new settings from a starting worker, for batches cut from now on."""
        self._length.add_signal()
        self._settings = only_argument(BatcherSettings, arguments) or self._settings
        self._queue.resize(max_bets=self._settings.max_bets, max_players=self._settings.max_players)

    @workflow.signal
    def settlement_closed(self, *arguments: Any) -> None:
        """A Settlement's word that it is done, which makes room for the next: one whose end this run does not hear by itself."""
        self._length.add_signal()
        closed = only_argument(ClosedBatch, arguments)
        if closed is not None:
            self._free_slot(closed.batch_id)
            if not self._state.opened and len(closed.batch_id) <= MAX_BATCH_ID_CHARS:
                self._state.closed.append(closed.batch_id)
                del self._state.closed[:-MAX_REMEMBERED_ENDS]

    @workflow.signal
    def settlement_stuck(self, *arguments: Any) -> None:
        """A Settlement's word that it does not get on, which may open the lane's circuit breaker."""
        self._length.add_signal()
        stuck = only_argument(StuckBatch, arguments)
        if stuck is not None and len(stuck.batch_id) <= MAX_BATCH_ID_CHARS:
            self._note_stuck(stuck)

    def _note_stuck(self, stuck: StuckBatch) -> None:
        state, settings = self._state, self._settings
        if not state.opened:
            # Its slot is not known yet.
            if len(state.breaker.stuck) < MAX_BATCHES_IN_FLIGHT:
                state.breaker.stuck[stuck.batch_id] = stuck.why[:MAX_REASON_CHARS]
        elif stuck.batch_id in state.in_flight:
            # With fewer slots than that, there cannot be so many.
            opens_after = min(settings.breaker_after, settings.max_in_flight)
            state.breaker.note_stuck(stuck.batch_id, stuck.why, workflow.now(), opens_after)

    @workflow.query
    def state(self) -> BatcherState:
        """All that the lane holds, for the run after one that was ended; but for rejections and overflow, maybe too many for an answer."""
        return self._state.model_copy(update={"rejections": [], "overflow": []})

    @workflow.query
    def overflow(self, start: int, limit: int) -> list[QueuedBet]:
        """Bets behind the queue that are not known to be in the journal, from number `start` on."""
        return self._state.overflow[start : start + limit]

    @workflow.query
    def rejections(self, start: int, limit: int) -> list[Rejection]:
        """Those that are not known to be in the journal, from number `start` on."""
        return self._state.rejections[start : start + limit]

    @workflow.query
    def status(self) -> BatcherStatus:
        """What the lane holds now."""
        state = self._state
        return BatcherStatus(
            lane=self._lane,
            opened=state.opened,
            paused=state.paused,
            queued=len(state.queue),
            parked=state.parked + len(state.overflow),
            breaker=state.breaker.status,
            in_flight=state.in_flight,
            counters=state.counters,
            trouble=self._all_trouble(),
            settings=self._settings,
        )

    # Taking in.

    def _check_room(self, count: int) -> None:
        if not self._state.opened:
            raise ApplicationError(
                f"lane {self._lane} takes over from the run before, send again later {self._unread}".rstrip(),
                type=LaneUnavailable.__name__,
            )
        held = self._held()
        if not self._has_room(count):
            raise ApplicationError(
                f"lane {self._lane} is saturated with {held} queued bets: send again later",
                type=LaneSaturated.__name__,
            )

    def _held(self) -> int:
        """Rejections that the journal has not taken yet weigh on the lane like bets."""
        state = self._state
        return len(state.queue) + len(state.rejections) + len(state.overflow) + state.parked

    def _has_room(self, count: int) -> bool:
        return not self._queue.has_bets_behind and self._held() + count <= self._queue.room

    def _take(self, bet_like: Any, *, sent_as: Any, tracked: bool = False, may_wait_behind: bool = False) -> BetOutcome:
        state = self._state
        try:
            bet = parse_bet(bet_like)
        except InvalidBet as error:
            return self._reject(RejectionReason(error.reason), error.detail, error.bet_id, sent_as)
        lane = lane_of(bet.player, self._settings.lanes)
        if lane != self._lane:
            return self._reject(
                RejectionReason.WRONG_LANE, f"player {bet.player} belongs to lane {lane}", bet.bet_id, sent_as
            )
        digest, known = known_digest(bet), self._queue.known(bet.bet_id)
        if known is None:
            queued = QueuedBet(bet=bet, since=workflow.now(), tracked=tracked)
            self._length.add_bets(1)
            if may_wait_behind and (self._queue.has_bets_behind or self._queue.is_full):
                self._queue.add_behind(queued, digest)
            else:
                self._queue.add(queued, digest)
            return BetOutcome(bet_id=bet.bet_id, answer=Answer.ACCEPTED)
        if known.digest != digest:
            return self._reject_conflict(bet.bet_id, sent_as)
        state.counters.duplicates += 1
        if tracked and known.queued is not None:
            known.queued.tracked = True
        return BetOutcome(bet_id=bet.bet_id, answer=Answer.DUPLICATE, batch_id=known.batch_id)

    def _reject_conflict(self, bet_id: str, sent_as: Any) -> BetOutcome:
        return self._reject(
            RejectionReason.CONFLICT, "a bet with this id and other content was taken before", bet_id, sent_as
        )

    def _reject_conflicts(self, conflicts: Sequence[QueuedBet]) -> None:
        for queued in conflicts:
            self._reject_conflict(queued.bet.bet_id, queued.bet.model_dump_json(exclude_none=True))

    def _reject(self, reason: RejectionReason, detail: str, bet_id: str | None, sent_as: Any) -> BetOutcome:
        text = text_of(sent_as)
        # As it came in, and as it is recorded.
        self._length.add_bytes(2 * len(text))
        self._state.rejections.append(
            Rejection(
                rejection_id=str(workflow.uuid4()),
                lane=self._lane,
                bet_id=bet_id,
                reason=reason,
                detail=excerpt(detail),
                payload=excerpt(text),
                at=workflow.now(),
            )
        )
        self._state.counters.rejected += 1
        return BetOutcome(
            bet_id=bet_id, answer=Answer.REJECTED, reason=reason, detail=detail[:MAX_ANSWERED_DETAIL_CHARS]
        )

    # Cutting batches.

    def _has_work(self) -> bool:
        return self._is_due() or self._is_half_cut() or self._may_continue_as_new()

    def _is_half_cut(self) -> bool:
        """Whether the run before has cut batches whose Settlements are not known to have started."""
        return self._state.opened and bool(self._state.cuts)

    def _is_due(self) -> bool:
        state = self._state
        return (
            bool(state.queue)
            and state.opened
            and not state.paused
            and len(state.in_flight) < self._settings.max_in_flight
            and state.breaker.status is not BreakerStatus.PROBING
            and self._is_ripe()
        )

    def _is_ripe(self) -> bool:
        """Whether the queue's head need not wait any longer: by its timer, never by the clock, which tells a replay another time."""
        return self._ripens_at() in (None, self._waited_until)

    def _ripens_at(self) -> datetime | None:
        """When the queue's head may be cut; None if it need not wait for a time."""
        state = self._state
        probe_at = state.breaker.probe_at
        if not state.queue or self._queue.is_batch_full:
            return probe_at
        window_ends = state.queue[0].since + timedelta(seconds=self._settings.window_seconds)
        return window_ends if probe_at is None else max(window_ends, probe_at)

    async def _wait_for_work(self, beside: asyncio.Future[Any]) -> None:
        ripens_at = self._ripens_at()
        timeout = None if ripens_at is None or self._is_ripe() else max(ripens_at - workflow.now(), A_MOMENT)
        try:
            # A bet that comes into an empty queue, and new settings, move the time to wait for.
            await workflow.wait_condition(
                lambda: beside.done() or self._has_work() or self._ripens_at() != ripens_at,
                timeout=timeout,
                timeout_summary="the batch's window",
            )
        except TimeoutError:
            self._waited_until = ripens_at

    async def _cut(self) -> None:
        """Starts Settlements for what is due at the queue's head, and returns once they are known to have started."""
        state = self._state
        starting = sum(len(cut.bets) for cut in state.cuts)
        while self._is_due() and (not starting or starting + self._queue.next_bets <= MAX_BETS_STARTING):
            starting += self._queue.next_bets
            batch_id, _ = self._queue.cut(self._lane)
            self._waited_until = None
            state.breaker.note_cut(batch_id)
        if self._is_half_cut():
            await asyncio.gather(*map(self._start_settlement, state.cuts))
            state.cuts = []

    async def _start_settlement(self, cut: Cut) -> None:
        """Starts the Settlement of a batch that was cut. Harmless if it runs already: its id stands for its content."""
        state = self._state
        bets = tuple(queued.bet for queued in cut.bets)
        settlement_id = cut.batch_id(self._lane)
        state.in_flight[settlement_id] = len(bets)
        self._own.add(settlement_id)
        self._length.add_batch()
        try:
            settlement = await workflow.start_child_workflow(
                Settlement.run,
                SettlementInput(
                    lane=self._lane,
                    bets=bets,
                    tracked=tuple(queued.bet.bet_id for queued in cut.bets if queued.tracked),
                    after=cut.after,
                ),
                id=settlement_id,
                parent_close_policy=ParentClosePolicy.ABANDON,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
                static_summary=f"lane {self._lane}: {len(bets)} bets of {len({bet.player for bet in bets})} players",
                search_attributes=TypedSearchAttributes(
                    [
                        SearchAttributePair(visibility.LANE, self._lane),
                        SearchAttributePair(visibility.BATCH_ID, settlement_id),
                        SearchAttributePair(visibility.BATCH_STATUS, BatchStatus.PENDING.value),
                    ]
                ),
            )
        except WorkflowAlreadyStartedError:
            # The id stands for this very content, so the batch is in good hands; but its end may have been told before.
            self._own.discard(settlement_id)
            if await self._until_mended(
                partial(self._done_of, [settlement_id]), partial(self._show_trouble, "starting")
            ):
                self._free_slot(settlement_id)
        else:
            settlement.add_done_callback(partial(self._note_ended, settlement_id))

    def _note_ended(self, settlement_id: str, settlement: asyncio.Task[Any]) -> None:
        """One that has failed keeps its slot: somebody must start it again, and it will be watched as those of the run before are."""
        self._own.discard(settlement_id)
        self._updates_since_end = 0
        if not settlement.cancelled() and settlement.exception() is None:
            self._free_slot(settlement_id)

    def _free_slot(self, settlement_id: str) -> None:
        if self._state.in_flight.pop(settlement_id, None) is not None:
            self._state.breaker.note_closed()

    async def _watch_inherited(self) -> None:
        """Frees slots that nobody else does: of a Settlement that ended just when the run that had started it did, and told that one."""
        asked: list[str] = []
        pause = FIRST_INHERITED_PAUSE
        while True:
            await workflow.wait_condition(lambda: bool(self._inherited()))
            if any(settlement_id not in asked for settlement_id in self._inherited()):
                pause = FIRST_INHERITED_PAUSE
            asked = self._inherited()
            await workflow.sleep(pause, summary="have batches of the run before ended?")
            pause = min(2 * pause, LONGEST_INHERITED_PAUSE)
            if inherited := self._inherited():
                show_trouble = partial(self._show_trouble, "inherited")
                for settlement_id in await self._until_mended(partial(self._done_of, inherited), show_trouble):
                    self._free_slot(settlement_id)

    def _inherited(self) -> list[str]:
        """Batches in flight whose end this run does not hear by itself: it has not started them, or they have failed."""
        return [settlement_id for settlement_id in self._state.in_flight if settlement_id not in self._own]

    async def _done_of(self, settlement_ids: list[str]) -> list[str]:
        return await workflow.execute_activity_method(
            TakingOver.done_of,
            settlement_ids,
            start_to_close_timeout=policies.SHORT_CALL_TIMEOUT,
            retry_policy=policies.RETRY_UNTIL_DONE,
            summary="started by another run: done?",
        )

    # Beside the main loop: what goes into the journal. A journal that takes nothing must not stop the lane.

    async def _write_rejections(self) -> None:
        while True:
            await workflow.wait_condition(lambda: bool(self._state.rejections))
            written = self._first_rejections()
            await self._done_in_journal("rejections", Recording.record_rejections, written, f"{len(written)} rejected")
            # Handlers may have appended meanwhile; what was written still stands at the head.
            del self._state.rejections[: len(written)]

    def _first_rejections(self) -> list[Rejection]:
        room = REJECTIONS_BYTES_PER_WRITE
        for count, rejection in enumerate(self._state.rejections):
            room -= len(rejection.model_dump_json())
            if room < 0:
                return self._state.rejections[:count]
        return list(self._state.rejections)

    async def _keep_overflow(self) -> None:
        """Parks what is too much for the queue, and lets it in again, in order. One step at a time: no two pages are under way."""
        await workflow.wait_condition(lambda: self._state.opened)
        while True:
            await workflow.wait_condition(lambda: self._next_step() is not None)
            step = self._next_step()
            assert step is not None
            await step()

    def _next_step(self) -> Callable[[], Awaitable[None]] | None:
        state, queue = self._state, self._queue
        if state.unparked < state.taken:
            return self._unpark
        if queue.is_low and (state.parked or not state.looked):
            return self._take_up
        if queue.is_low and state.overflow:
            return self._let_in
        if len(state.overflow) >= MIN_BETS_PER_PARKING:
            return self._park
        return None

    async def _unpark(self) -> None:
        up_to = self._state.taken
        await self._done_in_journal(
            "parking", ParkingPlace.unpark_bets, UnparkRequest(lane=self._lane, up_to=up_to), "taken up, so removed"
        )
        self._state.unparked = up_to

    async def _take_up(self) -> None:
        """Takes up the first of the parked bets: once this run's history has them, they are its own."""
        state = self._state
        room = self._queue.room - len(state.queue)
        request = ParkedRequest(lane=self._lane, above=state.taken, limit=min(room, MAX_BETS_PER_PARKING))
        page = await self._done_in_journal("parking", ParkingPlace.read_parked_bets, request, "there is room")
        self._length.add_bets(len(page.bets))
        lost = state.parked - len(page.bets) - page.left
        if state.looked and lost > 0:
            state.lost.append(f"the journal has lost {lost} parked bets since {workflow.now():%Y-%m-%d %H:%M} at most")
        self._reject_conflicts(self._queue.take_up(page))

    async def _let_in(self) -> None:
        self._reject_conflicts(self._queue.let_in())

    async def _park(self) -> None:
        page, conflicts = self._queue.first_behind(MAX_BETS_PER_PARKING)
        self._reject_conflicts(conflicts)
        request = ParkRequest(lane=self._lane, above=self._state.taken, bets=tuple(page))
        self._length.add_bets(len(page))
        outcome = await self._done_in_journal("parking", ParkingPlace.park_bets, request, f"{len(page)} bets")
        self._reject_conflicts(self._queue.note_parked(page, outcome))

    async def _done_in_journal(
        self, what: str, activity: Callable[[Any, Request], Awaitable[Result]], request: Request, summary: str
    ) -> Result:
        return await self._until_mended(
            partial(
                workflow.execute_activity_method,
                activity,
                request,
                start_to_close_timeout=policies.SHORT_CALL_TIMEOUT,
                retry_policy=policies.RETRY_UNTIL_DONE,
                summary=summary,
            ),
            partial(self._show_trouble, what),
        )

    async def _until_mended(self, call: Callable[[], Awaitable[Result]], show: Callable[[str], None]) -> Result:
        def counted() -> Awaitable[Result]:
            self._length.add_activity()
            return call()

        return await mending.until_mended(counted, show)

    # Taking over from runs that were ended.

    async def _take_over(self) -> None:
        """Takes over from the runs before, newest first, until one had itself taken over from all before it."""
        if self._state.opened:
            return
        self._long_opening = asyncio.create_task(
            workflow.sleep(LONG_OPENING, summary="that would be long to take over")
        )
        await self._take_over_all()
        self._long_opening.cancel()

    async def _take_over_all(self) -> None:
        while not self._state.opened:
            estate = await self._until_mended(self._look_back, self._show_unread)
            self._length.add_bytes(ESTATE_BYTES if estate else 0)
            signals = await self._unheard_signals(estate.run_id) if estate and estate.unheard else []
            if self._state.opened:
                return
            if estate is None:
                self._state.opened = True
                self._forget_opening()
            elif estate.state is None:
                self._open_without(estate.lost)
            else:
                await self._read_overflow(estate.run_id, estate.state)
                if not self._state.opened:
                    self._adopt(estate.run_id, estate.state, signals)

    async def _look_back(self) -> Estate | None:
        if self._state.opened:
            return None  # A person has given it up.
        return await workflow.execute_activity_method(
            TakingOver.take_over,
            LookBack(
                lane=self._lane,
                run_id=workflow.info().run_id,
                begun=self._begun,
                adopted=tuple(self._state.adopted),
            ),
            start_to_close_timeout=policies.LONG_CALL_TIMEOUT,
            heartbeat_timeout=policies.HEARTBEAT_TIMEOUT,
            retry_policy=policies.RETRY_UNTIL_DONE,
            summary="has a run before been ended?",
        )

    async def _unheard_signals(self, run_id: str) -> list[UnheardSignal]:
        signals: list[UnheardSignal] = []
        after: int | None = 0
        self._hearing = True
        while after is not None:
            page = await self._until_mended(partial(self._unheard_page, run_id, after), self._show_unread)
            signals += page.signals
            self._length.add_bytes(sum(len(argument) for signal in page.signals for argument in signal.arguments))
            after = page.after
        self._hearing = False
        return signals

    async def _read_overflow(self, run_id: str, older: BatcherState) -> None:
        """Completes what came along with the estate of an older run's overflow."""
        page = older.overflow
        self._hearing = True
        while len(page) == OVERFLOW_PER_PAGE:
            page = await self._until_mended(
                partial(self._overflow_page, run_id, len(older.overflow)), self._show_unread
            )
            older.overflow = [*older.overflow, *page]
            self._length.add_bets(len(page))
        self._hearing = False

    async def _overflow_page(self, run_id: str, start: int) -> list[QueuedBet]:
        if self._state.opened:
            return []
        return await workflow.execute_activity_method(
            TakingOver.overflow,
            OverflowRequest(lane=self._lane, run_id=run_id, start=start),
            start_to_close_timeout=policies.LONG_CALL_TIMEOUT,
            heartbeat_timeout=policies.HEARTBEAT_TIMEOUT,
            retry_policy=policies.RETRY_UNTIL_DONE,
            summary=f"bets behind its queue from {start}",
        )

    async def _unheard_page(self, run_id: str, after: int) -> UnheardSignals:
        if self._state.opened:
            return UnheardSignals(signals=(), after=None)
        return await workflow.execute_activity_method(
            TakingOver.unheard_signals,
            UnheardRequest(lane=self._lane, run_id=run_id, after=after),
            start_to_close_timeout=policies.LONG_CALL_TIMEOUT,
            heartbeat_timeout=policies.HEARTBEAT_TIMEOUT,
            retry_policy=policies.RETRY_UNTIL_DONE,
            summary=f"signals after event {after}",
        )

    def _adopt(self, run_id: str, older: BatcherState, signals: Sequence[UnheardSignal]) -> None:
        """Puts an older run's state under this run's own, whose queue comes after that of the older.

        So far this run has only queued what came by signal, which no answer has told anybody: against the older run's bets these are
        duplicates, conflicts, or new.
        """
        mine = self._state
        self._take_state(older)
        for signal in signals:
            self._hear(signal)
        older.adopted = [*mine.adopted, run_id, *older.adopted]
        # Whoever is writing this run's rejections finds them at the head.
        older.rejections = [*mine.rejections, *older.rejections]
        older.counters.rejected += mine.counters.rejected
        older.counters.duplicates += mine.counters.duplicates
        # What it has parked the journal tells, once the lane is open.
        older.looked = False
        for queued in (*mine.queue, *mine.overflow):
            self._take(queued.bet, sent_as=queued.bet, tracked=queued.tracked, may_wait_behind=not queued.tracked)
        for closed in mine.closed:
            if older.in_flight.pop(closed, None) is not None:
                older.breaker.note_closed()
        for batch_id, why in mine.breaker.stuck.items():
            self._note_stuck(StuckBatch(batch_id=batch_id, why=why))
        if older.breaker.probe is not None and older.breaker.probe not in older.in_flight:
            # It has come to its end meanwhile, and nothing else would tell the breaker.
            older.breaker.note_closed()
        self._metrics.take_as_told(older.counters)
        older.closed = [*older.closed, *mine.closed][-MAX_REMEMBERED_ENDS:]
        asked = older.pause_asked if mine.pause_asked is None else mine.pause_asked
        older.paused, older.pause_asked = older.paused if asked is None else asked, asked
        if older.opened:
            self._forget_opening()

    def _hear(self, signal: UnheardSignal) -> None:
        """Does what the older run would have done at the signal. Its settings are not wanted any more."""
        payloads = [Payload.FromString(base64.b64decode(argument)) for argument in signal.arguments]
        match signal.name:
            case "pause":
                self.pause()
            case "resume":
                self.resume()
            case "settlement_closed" | "settlement_stuck":
                with contextlib.suppress(InvalidBet):  # What is no JSON is no word of a Settlement's.
                    told = self.settlement_closed if signal.name == "settlement_closed" else self.settlement_stuck
                    told(*(decoded(RawValue(payload)) for payload in payloads))
            case "configure" | "start_afresh":
                pass
            case _:
                self.place_bet(signal.name, [RawValue(payload) for payload in payloads])

    def _open_without(self, why: str) -> None:
        self._state.lost.append(why)
        self._state.opened = True
        self._forget_opening()
        self._show_unread("")

    def _forget_opening(self) -> None:
        state = self._state
        state.adopted, state.closed, state.pause_asked = [], [], None

    def _is_long_opening(self) -> bool:
        return self._long_opening is not None and self._long_opening.done()

    # What it shows.

    def _show_unread(self, unread: str) -> None:
        self._unread = unread

    def _show_trouble(self, what: str, trouble: str) -> None:
        self._trouble[what] = trouble

    async def _keep_showing(self) -> None:
        """Beside the main loop, which does not wake for all that is to be shown: each time would cost it a timer."""
        while True:
            self._show()
            shown = self._to_show()
            await workflow.wait_condition(lambda shown=shown: self._to_show() != shown)

    def _to_show(self) -> tuple[object, ...]:
        state = self._state
        held = (len(state.queue), len(state.overflow), state.parked, len(state.in_flight))
        return *held, state.counters.model_copy(), self._lane_state(), self._all_trouble()

    def _all_trouble(self) -> str:
        lost = [f"bets may be lost, have those without a receipt sent again: {why}" for why in self._state.lost]
        opening = self._unread or ("" if self._state.opened else TAKES_OVER)
        return "; ".join(filter(None, (*self._trouble.values(), self._stuck(), opening, *lost)))

    def _stuck(self) -> str:
        breaker = self._state.breaker
        if breaker.status is BreakerStatus.CLOSED:
            return ""
        batch_id, why = list(breaker.stuck.items())[-1]
        return f"no batch is cut but to try, for {len(breaker.stuck)} settlements in a row are stuck, the latest {batch_id}: {why}"

    def _lane_state(self) -> LaneState:
        state = self._state
        if not state.opened:
            return LaneState.OPENING
        if state.paused:
            return LaneState.PAUSED
        if state.breaker.status is not BreakerStatus.CLOSED:
            return LaneState.BREAKER_OPEN
        # What has become saturated is called so until it has drained by half: each change is an event.
        was_saturated = self._shown_state is LaneState.SATURATED
        is_saturated = (
            self._held() > self._queue.room // 2 if was_saturated else not self._has_room(MAX_BETS_PER_UPDATE)
        )
        return LaneState.SATURATED if is_saturated else LaneState.OPEN

    def _may_continue_as_new(self) -> bool:
        state = self._state
        return (
            self._should_continue_as_new()
            and len(state.rejections) <= MAX_CARRIED_REJECTIONS
            and len(state.overflow) <= MAX_CARRIED_OVERFLOW
        )

    def _should_continue_as_new(self) -> bool:
        length, bound = self._length, self._settings.continue_as_new_after_events or run_length.MAX_EVENTS
        share = max(length.events / bound, length.size / run_length.MAX_BYTES)
        # The next run would begin with the first page of what this one hears, and might never come to the last.
        is_due = share >= 1 and not self._hearing and self._is_quiet(is_urgent=share >= URGENT)
        return is_due or length.signals >= MAX_SIGNALS_PER_RUN

    def _is_quiet(self, *, is_urgent: bool) -> bool:
        """Whether nothing is likely to come in before this very task is done.

        Temporal refuses to continue as new what something has come in for meanwhile. The task is then tried again from the beginning of
        the history, which takes so long that more has come in. Clients send nothing while they wait for the answers that a task gives;
        and batches, whose transactions become final together, end together, so that a moment after some have ended none does. Where
        there are no updates, one moment is as good as another.
        """
        if self._length.events - self._events_at_update > EVENTS_WITHOUT_UPDATE:
            return True
        is_this_task = workflow.info().get_current_history_length() == self._updated_at
        is_after_ends = not self._own or self._updates_since_end == UPDATES_AFTER_ENDS
        return is_this_task and (is_after_ends or is_urgent)

    def _show(self) -> None:
        lane_state = self._lane_state()
        if lane_state is not self._shown_state:
            self._shown_state = lane_state
            visibility.show(visibility.LANE_STATE.value_set(lane_state.value))
        self._metrics.tell(self._state)
        state = self._state
        workflow.set_current_details(
            f"**lane {self._lane}** {lane_state}: {len(state.queue)} bets queued, {state.parked + len(state.overflow)} parked, "
            f"{len(state.in_flight)} batches in flight\n\n"
            f"accepted {state.counters.accepted}, duplicates {state.counters.duplicates}, "
            f"rejected {state.counters.rejected}, batches {state.counters.batches}\n\n{self._all_trouble()}"
        )
