"""One batch's way onto the chain: claim ▶ prove ▶ sign ▶ submit ▶ confirm. Decides what is next; never asks a chain itself.

No failure loses a bet: what may pass is tried again, what the chain refuses is taken out and the rest proven again, and anything
else parks the batch as Failed until a person sends `retry` or, where a mend can be noticed, until it works again.

The history remembers what the journal is told (number, refusals, live attempts), so that a journal that was restored from an older
copy gets back what it has lost of a batch that is on its way.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict
from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, FailureError

with workflow.unsafe.imports_passed_through():
    from activities.claiming import Claiming, ClaimOutcome, ClaimRequest, Signed
    from activities.proving import Proving
    from activities.recording import Recording, StatusRequest
    from activities.submitting import ConfirmOutcome, ConfirmRequest, SignRequest, Submitting
    from settlement import errors
    from settlement.batches import (
        DuplicateBet,
        Landing,
        Proof,
        RefusedBet,
        SignedAttempt,
        Standing,
        Statement,
        batch_id,
    )
    from settlement.bets import Bet
    from settlement.lifecycle import BatchStatus, check_transition
    from workflows import mending, names, policies, visibility
    from workflows.bet import BatchNews

MENDED_BY_CLAIM: Final = frozenset(
    {errors.VaultUncovered.__name__, errors.BatchNumberTaken.__name__, errors.BatchUnknown.__name__}
)
"""Failures that another claim mends: by ejecting a bet, by another number, or by telling the journal again what it has lost."""

REFUSED_FOR_GOOD: Final = frozenset(
    {
        errors.VaultUncovered.__name__,
        errors.BatchNumberTaken.__name__,
        errors.HouseUncovered.__name__,
        errors.SettlementRefused.__name__,
    }
)
"""What the ledger raises only when no attempt can land any more, so that the batch may be claimed and signed anew."""

PREDECESSOR_PAUSE: Final = timedelta(seconds=1)
PREDECESSOR_PAUSES: Final = 20
"""After so many pauses, a minute in all with the claims between them, which wait as well, one no longer waits for batches cut before it
that are not claimed: they are gone."""

MENDED_FROM_OUTSIDE: Final = frozenset(
    {
        errors.LedgerMisconfigured.__name__,
        errors.HouseUncovered.__name__,
        errors.JournalMisconfigured.__name__,
        errors.JournalBehind.__name__,
        errors.NumberInUse.__name__,
        errors.ProvingKeyMissing.__name__,
        errors.KeyRefused.__name__,
    }
)
"""Failures that an operator mends without touching the batch, so it tries again by itself."""

OUTAGE_PAUSE: Final = timedelta(seconds=5)
"""After an activity's retries have come to nothing, before the next ones."""

TELLING_TRIES: Final = 8
"""How often a Batcher is told that a batch is closed, in about two minutes; one that is not there by then knows of no batch."""

MAX_LIVE_ATTEMPTS: Final = 8
"""How many attempts that may still land are remembered, the latest. A further one is signed only once none of them can, so there is
one; two, where the journal held one that the history did not."""

PASSING: Final = frozenset({BatchStatus.PENDING, BatchStatus.PROVED})
"""Statuses that a batch as a rule leaves within the workflow task that it has entered them in: a search attribute would be work for
Temporal that nobody sees. They are set where it turns out to take longer."""

SHOWN_TRANSITIONS: Final = 30
"""The Web UI's details show this many of the latest; the journal has them all."""


Request = TypeVar("Request")
Result = TypeVar("Result")


class ShownTransition(BaseModel):
    """A transition as the Web UI and the `status` query show it."""

    status: BatchStatus
    at: datetime
    detail: str


class SettlementState(BaseModel):
    """All that a settlement knows, carried whole through continue-as-new.

    `sequence`: the next transition's number in the journal; `proved_sequence`: that of the latest to Proved.
    `refused`, `duplicates`: what the latest claim left out. `own_bets`: what it settles, if its input does not say that.
    `attempts`: how many transactions were signed, which numbers the next; `live`: those of them that may still land, as far as was
    proven, all for `statement`; `unsent`: the latest is still to be sent, which makes transition `submitted_sequence`. `taken`: a
    number that the chain has given to another batch. `forgotten`: the journal has lost the batch, or its latest state. `landing`,
    `is_final`: how it landed, and that no fork can undo that. `lane_told`: the Batcher knows; `told`: the bets as well. `pauses`: how
    often it has waited; `predecessor_pauses`: for batches cut before it to be claimed.
    """

    status: BatchStatus = BatchStatus.PENDING
    sequence: int = 0
    pending_detail: str = ""
    proved_sequence: int = 0
    transitions: list[ShownTransition] = []
    number: int | None = None
    settling: int = 0
    refused: list[RefusedBet] = []
    duplicates: list[DuplicateBet] = []
    own_bets: list[Bet] = []
    waiting_for: str = ""
    statement: Statement | None = None
    proof: Proof | None = None
    attempts: int = 0
    live: list[SignedAttempt] = []
    unsent: bool = False
    submitted_sequence: int | None = None
    taken: int | None = None
    forgotten: bool = False
    landing: Landing | None = None
    is_final: bool = False
    lane_told: bool = False
    told: bool = False
    pauses: int = 0
    predecessor_pauses: int = 0
    retry_asked: bool = False


class SettlementInput(BaseModel):
    """A batch as its lane's Batcher cut it.

    `tracked`: ids of the bets that have a workflow of their own. `after`: batches cut before it that were still on their way.
    `revived`: started again by the reconciliation, not by a Batcher, so that what was signed for it before may be unknown. Then
    `bets` may be empty: what the journal holds of the batch is settled; and with `number` it is claimed under that one again. Either
    way without what `refused` and `duplicates` say that it left out before.
    """

    model_config = ConfigDict(frozen=True)

    lane: int
    bets: tuple[Bet, ...]
    tracked: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    revived: bool = False
    number: int | None = None
    refused: tuple[RefusedBet, ...] = ()
    duplicates: tuple[DuplicateBet, ...] = ()
    carried: SettlementState | None = None


class SettlementResult(BaseModel):
    """How the batch ended. `landing` is None only if no bet was left to settle.

    `refused_bets`, `duplicate_bets`: what it left out, for a journal that loses it.
    """

    model_config = ConfigDict(frozen=True)

    batch_id: str
    lane: int
    number: int | None
    status: BatchStatus
    settled: int
    refused: int
    duplicates: int
    landing: Landing | None
    refused_bets: tuple[RefusedBet, ...] = ()
    duplicate_bets: tuple[DuplicateBet, ...] = ()


class LeftOut(BaseModel):
    """The answer to the `left_out` query."""

    model_config = ConfigDict(frozen=True)

    refused: tuple[RefusedBet, ...] = ()
    duplicates: tuple[DuplicateBet, ...] = ()


class SettlementStatus(BaseModel):
    """The answer to the `status` query."""

    model_config = ConfigDict(frozen=True)

    batch_id: str
    lane: int
    number: int | None
    status: BatchStatus
    bets: int
    settling: int
    refused: int
    duplicates: int
    waiting_for: str
    transitions: list[ShownTransition]


class ClosedBatch(BaseModel):
    """What a Settlement tells its lane's Batcher in the end."""

    model_config = ConfigDict(frozen=True)

    batch_id: str


class StuckBatch(BaseModel):
    """What a Settlement tells its lane's Batcher while it does not get on: parked, or without an answer from chain or journal."""

    model_config = ConfigDict(frozen=True)

    batch_id: str
    why: str


@workflow.defn
class Settlement:
    """Workflow `settlement-<lane>-<digest>`. Signal `retry` wakes a parked batch; query `status` shows where it is."""

    @workflow.init
    def __init__(self, request: SettlementInput) -> None:
        self._request = request
        self._batch_id = workflow.info().workflow_id
        self._state = request.carried or SettlementState(
            settling=len(request.bets),
            number=request.number,
            refused=list(request.refused),
            duplicates=list(request.duplicates),
        )
        # What the run before has set, or whoever has started it.
        self._published = self._to_publish() if request.carried else (BatchStatus.PENDING, None)

    @workflow.run
    async def run(self, request: SettlementInput) -> SettlementResult:
        return await mending.uncancellable(self._run(request))

    async def _run(self, request: SettlementInput) -> SettlementResult:
        if self._batch_id != batch_id(request.lane, request.bets) and not self._settles_own_bets:
            raise ApplicationError(
                f"a settlement's workflow id must follow from its bets: {batch_id(request.lane, request.bets)}",
                non_retryable=True,
            )
        if request.carried is None:
            self._show(BatchStatus.PENDING, "")
        while not self._state.told and not await self._try(self._settle):
            self._continue_as_new_if_suggested()
        await asyncio.gather(self._tell(), self._watch())
        state = self._state
        return SettlementResult(
            batch_id=self._batch_id,
            lane=request.lane,
            number=state.number,
            status=state.status,
            settled=state.settling if state.landing else 0,
            refused=len(state.refused),
            duplicates=len(state.duplicates),
            landing=state.landing,
            refused_bets=tuple(state.refused),
            duplicate_bets=tuple(state.duplicates),
        )

    @workflow.signal
    def retry(self, *_: Any) -> None:
        """Wakes a batch that is parked as Failed. Takes any arguments: one too many would fail every workflow task."""
        if self._state.status is BatchStatus.FAILED:
            self._state.retry_asked = True

    @workflow.query
    def status(self) -> SettlementStatus:
        """Where the batch is now."""
        state = self._state
        return SettlementStatus(
            batch_id=self._batch_id,
            lane=self._request.lane,
            number=state.number,
            status=state.status,
            bets=self._bet_count,
            settling=state.settling,
            refused=len(state.refused),
            duplicates=len(state.duplicates),
            waiting_for=state.waiting_for,
            transitions=state.transitions,
        )

    @workflow.query
    def left_out(self) -> LeftOut:
        """Bets of the batch that it does not settle, for the run after one that was ended."""
        return LeftOut(refused=tuple(self._state.refused), duplicates=tuple(self._state.duplicates))

    @property
    def _settles_own_bets(self) -> bool:
        return self._request.revived and not self._request.bets

    @property
    def _heard_by(self) -> str | None:
        """The Batcher's run that hears this workflow's end as its child's, if that comes at once: before it, tracked bets are told."""
        parent = workflow.info().parent
        return parent.run_id if parent and not self._request.tracked else None

    @property
    def _bet_count(self) -> int:
        return len(self._request.bets or self._state.own_bets)

    def _continue_as_new_if_suggested(self) -> None:
        if workflow.info().is_continue_as_new_suggested():
            workflow.continue_as_new(self._request.model_copy(update={"carried": self._state}))

    async def _try(self, step: Callable[[], Awaitable[bool]]) -> bool:
        """Whether `step` says that it is done. A failure that no retry of an activity can mend is dealt with, and it is not."""
        try:
            return await step()
        except ApplicationError as error:
            await self._recover(error)
            return False

    async def _settle(self) -> bool:
        """Takes the batch as far as it goes; False if it has to wait for others first."""
        state = self._state
        if not state.live or state.forgotten:
            outcome = await self._claim()
            if outcome.waiting_for:
                await self._pause(
                    outcome.waiting_for, self._next_pause() if outcome.number else self._predecessor_pause()
                )
                return False
            if outcome.landing is not None:
                # Whether a fork can still undo it is asked while it is watched: the run that confirmed it may have ended before.
                if state.statement != outcome.statement:
                    state.live = []
                state.statement, state.landing = outcome.statement, outcome.landing
                self._enter(BatchStatus.CONFIRMED, "by an earlier run")
                return True
            if outcome.statement is None:
                await self._fail("no bet is left to settle", alert=False)
                return True
            await self._prove(outcome.statement)
            await self._sign()
        while not await self._confirm():
            state.live = []
            await self._sign()
            if workflow.info().is_continue_as_new_suggested():
                return False
        return True

    async def _claim(self) -> ClaimOutcome:
        state = self._state
        if state.status is not BatchStatus.PENDING:
            self._enter(BatchStatus.PENDING, state.pending_detail)
        outcome = await self._promptly(
            Claiming.claim_batch,
            ClaimRequest(
                batch_id=self._batch_id,
                lane=self._request.lane,
                bets=self._request.bets or tuple(state.own_bets),
                pending_detail=state.pending_detail,
                taken=state.taken,
                after=self._request.after if state.predecessor_pauses < PREDECESSOR_PAUSES else (),
                revived=self._request.revived,
                own_bets=self._settles_own_bets,
                number=state.number,
                refused=tuple(state.refused),
                duplicates=tuple(state.duplicates),
                signed=Signed(statement=state.statement, attempts=tuple(state.live))
                if state.statement and state.live
                else None,
            ),
            f"{self._bet_count} bets",
        )
        if outcome.number is None:
            return outcome
        state.number, state.settling, state.taken = outcome.number, outcome.settling, None
        state.refused, state.duplicates = list(outcome.refused), list(outcome.duplicates)
        state.own_bets = list(outcome.own_bets) or state.own_bets
        if outcome.none_live:
            state.live = []
        # The journal may be ahead of this run, so its count of the transitions goes on from there.
        state.sequence = outcome.sequence + 1
        if outcome.statement is not None and outcome.landing is None:
            self._enter(BatchStatus.PROVING)
            await self._report(final=False)
        return outcome

    async def _prove(self, statement: Statement) -> None:
        """Gets a proof of the statement; attempts that may still land were signed with one of it."""
        state = self._state
        if not state.live or state.proof is None or state.proof.public_input != statement.public_input:
            state.proof = await self._proof(statement)
        state.statement = statement
        state.proved_sequence = self._take_sequence()
        self._enter(BatchStatus.PROVED, f"{state.proof.milliseconds} ms")

    async def _proof(self, statement: Statement) -> Proof:
        return await self._through_outages(
            partial(
                workflow.execute_activity_method,
                Proving.prove_batch,
                statement,
                task_queue=names.PROVING_QUEUE,
                start_to_close_timeout=policies.PROVE_TIMEOUT,
                heartbeat_timeout=policies.HEARTBEAT_TIMEOUT,
                retry_policy=policies.RETRY_UNTIL_DONE,
                summary=f"batch {statement.number}: {len(statement.entries)} bets, circuit {statement.shape.name}",
            )
        )

    async def _sign(self) -> None:
        """Signs one more transaction, or gets the one that may still land, unless the chain has the batch. `_outcome` sends it."""
        state = self._state
        assert state.statement is not None
        if state.proof is None or state.proof.public_input != state.statement.public_input:
            # Confirmed by an earlier run, and undone since.
            state.proof = await self._proof(state.statement)
        try:
            attempt = await self._promptly(
                Submitting.sign_settlement,
                SignRequest(
                    batch_id=self._batch_id,
                    statement=state.statement,
                    proof=state.proof,
                    attempt=state.attempts,
                    proved_sequence=None if state.landing else state.proved_sequence,
                    live=tuple(state.live),
                ),
                f"batch {state.number}, attempt {state.attempts}",
            )
        except ApplicationError as error:
            if error.type == errors.AlreadySettled.__name__:
                await self._pause("the chain's record of this batch to become final", self._next_pause())
                return
            raise
        state.attempts = max(state.attempts, attempt.attempt + 1)
        # Once this workflow task is in the history the bytes may reach the chain, whatever happens to the activity that sends them.
        others = [known for known in state.live if known.signature != attempt.signature]
        state.live = [*others, attempt][-MAX_LIVE_ATTEMPTS:]
        # The journal holds by now what it had lost.
        state.forgotten = False
        state.unsent = True
        if state.status is BatchStatus.PROVED:
            state.submitted_sequence = self._take_sequence()
            # From here on it may be sent at any moment; the journal says Submitted once it was.
            self._enter(BatchStatus.SUBMITTED, f"sending {attempt.signature}")

    async def _confirm(self) -> bool:
        """Whether the batch has landed, at the configured commitment; else none of its attempts can any more."""
        outcome = await self._outcome(until_final=False)
        verdict = outcome.verdict
        if verdict.standing is not Standing.SETTLED:
            return False
        assert verdict.landing is not None
        self._state.landing, self._state.is_final = verdict.landing, verdict.final
        self._state.lane_told = outcome.lane_told
        self._enter(BatchStatus.CONFIRMED, f"slot {verdict.landing.slot}, {verdict.landing.signature}")
        return True

    async def _outcome(self, *, until_final: bool) -> ConfirmOutcome:
        state = self._state
        assert state.statement is not None
        request = ConfirmRequest(
            batch_id=self._batch_id,
            statement=state.statement,
            confirmed_sequence=state.sequence,
            live=tuple(state.live),
            send=state.unsent,
            submitted_sequence=state.submitted_sequence,
            until_final=until_final,
            started_by=self._heard_by,
        )
        try:
            outcome = await self._through_outages(
                partial(
                    workflow.execute_activity_method,
                    Submitting.confirm_settlement,
                    request,
                    start_to_close_timeout=policies.CONFIRM_TIMEOUT,
                    heartbeat_timeout=policies.CONFIRM_HEARTBEAT_TIMEOUT,
                    retry_policy=policies.RETRY_FOR_A_WHILE,
                    summary=f"batch {state.number}, {state.attempts} signed{', until final' if until_final else ''}",
                )
            )
        except ApplicationError:
            self._note_sent()
            raise
        self._note_sent()
        return outcome

    def _note_sent(self) -> None:
        """Should it not have been: whatever may still land is sent again in time."""
        self._state.unsent, self._state.submitted_sequence = False, None

    async def _watch(self) -> None:
        """Stays with a batch that is Confirmed at a commitment which a fork can undo, until none can any more.

        If one does and nothing that was signed can land any more, the very same statement is signed again: its bets are told to be
        settled, so nothing of it may change. What stands in the way of that is shown, and tried again until it is mended.
        """
        state = self._state
        failures = 0
        is_refused = False
        while state.landing is not None and not state.is_final:
            try:
                if is_refused:
                    # The ledger says of its failed attempt the same as before until it is followed by another.
                    await self._sign()
                    is_refused = False
                verdict = (await self._outcome(until_final=True)).verdict
                if verdict.standing is Standing.SETTLED and verdict.landing is not None:
                    state.landing, state.is_final = verdict.landing, True
                else:
                    state.live = []
                    await self._sign()
                failures = 0
                self._show_wait("" if state.is_final else "the batch to land again: a fork has undone it")
            except ApplicationError as error:
                is_refused = error.type in REFUSED_FOR_GOOD
                if is_refused:
                    state.live = []
                why = mending.reason(error)
                workflow.logger.error("%s, which a fork has undone, does not land again: %s", self._batch_id, why)
                self._show_wait(f"the batch to land again, which a fork has undone: {why}")
                await workflow.sleep(mending.pause_after(failures), summary=why[: mending.MAX_SUMMARY_CHARS])
                failures += 1
            if state.told:
                self._continue_as_new_if_suggested()

    async def _recover(self, cause: ApplicationError) -> None:
        """Decides what a failure that no retry of an activity can mend means for the batch."""
        state = self._state
        detail = mending.reason(cause)
        if cause.type in REFUSED_FOR_GOOD:
            state.live = []
        if cause.type == errors.BatchUnknown.__name__:
            if not self._request.bets and not state.own_bets:
                # Whoever started it again can do so with its bets.
                raise ApplicationError(str(cause.message), type=cause.type, non_retryable=True)
            state.forgotten = True
        if cause.type in MENDED_BY_CLAIM:
            state.pending_detail = detail
            if cause.type == errors.BatchNumberTaken.__name__:
                state.taken = state.number
            await self._pause(detail, self._next_pause())
            return
        await self._fail(detail, alert=True)
        timeout = self._next_pause() if cause.type in MENDED_FROM_OUTSIDE else None
        try:
            await workflow.wait_condition(
                lambda: state.retry_asked, timeout=timeout, timeout_summary="try again by itself"
            )
            reason = "retry asked for"
        except TimeoutError:
            reason = "trying again by itself"
        state.retry_asked = False
        state.pending_detail = reason
        if state.live and not state.forgotten:
            await self._record(BatchStatus.SUBMITTED, reason, alert=False)

    async def _promptly(
        self, activity: Callable[[Any, Request], Awaitable[Result]], request: Request, summary: str
    ) -> Result:
        """What an activity answers that as a rule takes a moment: done within the workflow task, at half the cost for Temporal.

        It must not hold that task up, so what does not succeed at once is done as any other activity.
        """
        try:
            return await workflow.execute_local_activity_method(
                activity,
                request,
                start_to_close_timeout=policies.PROMPT_TIMEOUT,
                retry_policy=policies.NO_RETRY,
                summary=summary,
            )
        except FailureError as error:
            if isinstance(error, ApplicationError) and error.non_retryable:
                raise
        return await self._through_outages(
            partial(
                workflow.execute_activity_method,
                activity,
                request,
                start_to_close_timeout=policies.LONG_CALL_TIMEOUT,
                heartbeat_timeout=policies.HEARTBEAT_TIMEOUT,
                retry_policy=policies.RETRY_FOR_A_WHILE,
                summary=summary,
            )
        )

    async def _through_outages(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """The result of an activity that is tried for a while: again and again, and meanwhile people and the lane are told why.

        What no retry can mend is raised as `ApplicationError`, as local activities raise it.
        """
        self._publish()
        is_out = False
        while True:
            try:
                result = await call()
            except FailureError as error:
                cause = error.cause if isinstance(error, ActivityError) else error
                if isinstance(cause, ApplicationError) and cause.non_retryable:
                    raise cause from None
                why = mending.reason(cause) if isinstance(cause, ApplicationError) else str(cause)
                self._show_wait(f"what does not answer: {why}")
                if is_out:
                    await self._tell_stuck(why)
                await workflow.sleep(OUTAGE_PAUSE, summary=why[: mending.MAX_SUMMARY_CHARS])
                is_out = True
                state = self._state
                if state.told or state.landing is None:
                    self._continue_as_new_if_suggested()
            else:
                if is_out:
                    self._show_wait("")
                return result

    async def _fail(self, detail: str, *, alert: bool) -> None:
        await self._record(BatchStatus.FAILED, detail, alert=alert)
        if alert:
            await self._tell_stuck(detail)

    async def _record(self, status: BatchStatus, detail: str, *, alert: bool) -> None:
        self._enter(status, detail)
        request = StatusRequest(
            batch_id=self._batch_id, sequence=self._state.sequence, status=status, detail=detail, alert=alert
        )
        # Nothing else may happen to the batch before the journal has this.
        recorded = await mending.until_mended(
            lambda: workflow.execute_activity_method(
                Recording.record_status,
                request,
                start_to_close_timeout=policies.SHORT_CALL_TIMEOUT,
                retry_policy=policies.RETRY_UNTIL_DONE,
                summary=f"{status}: {detail}"[: mending.MAX_SUMMARY_CHARS],
            ),
            self._show_wait,
        )
        self._state.sequence = recorded + 1

    async def _pause(self, waiting_for: str, pause: timedelta) -> None:
        self._publish()
        self._show_wait(waiting_for)
        await workflow.sleep(pause, summary=waiting_for[: mending.MAX_SUMMARY_CHARS])
        self._show_wait("")

    def _show_wait(self, waiting_for: str) -> None:
        self._state.waiting_for = waiting_for
        self._refresh_details()

    def _next_pause(self) -> timedelta:
        pause = mending.pause_after(self._state.pauses)
        self._state.pauses += 1
        return pause

    def _predecessor_pause(self) -> timedelta:
        self._state.predecessor_pauses += 1
        return PREDECESSOR_PAUSE

    def _take_sequence(self) -> int:
        sequence = self._state.sequence
        self._state.sequence += 1
        return sequence

    def _enter(self, status: BatchStatus, detail: str = "") -> None:
        check_transition(self._state.status, status)
        self._show(status, detail)

    def _show(self, status: BatchStatus, detail: str) -> None:
        state = self._state
        state.status = status
        state.transitions.append(ShownTransition(status=status, at=workflow.now(), detail=detail))
        del state.transitions[:-SHOWN_TRANSITIONS]
        if status not in PASSING:
            self._publish()
        self._refresh_details()

    def _to_publish(self) -> tuple[BatchStatus, int | None]:
        return self._state.status, self._state.number

    def _publish(self) -> None:
        """Sets the search attributes, if they have changed."""
        if self._published == self._to_publish():
            return
        self._published = status, number = self._to_publish()
        numbered = [] if number is None else [visibility.BATCH_NUMBER.value_set(number)]
        visibility.show(visibility.BATCH_STATUS.value_set(status.value), *numbered)

    def _refresh_details(self) -> None:
        state = self._state
        lines = [
            f"**{state.status}** · lane {self._request.lane} · batch number {state.number or 'not given yet'}",
            f"{self._bet_count} bets: {state.settling} to settle, {len(state.refused)} refused, {len(state.duplicates)} duplicates",
        ]
        if state.waiting_for:
            lines.append(f"waiting for {state.waiting_for}")
        lines += [f"- {step.at:%Y-%m-%d %H:%M:%S} {step.status} {step.detail}" for step in state.transitions]
        workflow.set_current_details("\n\n".join(lines[:2]) + "\n\n" + "\n".join(lines[2:]))

    async def _tell(self) -> None:
        """Tells bets and Batcher, once, that the batch has come to its end."""
        if not self._state.told:
            await self._report(final=True)
            if not self._state.lane_told:
                await self._tell_batcher()
            self._state.told = True

    async def _report(self, *, final: bool) -> None:
        """Tells tracked bets about their batch. A bet that is not told asks the journal by itself in time."""
        news = BatchNews(batch_id=self._batch_id, lane=self._request.lane, number=self._state.number, final=final)
        for bet_id in self._request.tracked:
            await _signal(names.bet_workflow_id(bet_id), "news", news)

    async def _tell_stuck(self, why: str) -> None:
        """For the lane's circuit breaker. Not repeated: a batch that stays stuck tells again at its next try."""
        stuck = StuckBatch(batch_id=self._batch_id, why=why)
        await _signal(names.batcher_id(self._request.lane), "settlement_stuck", stuck)

    async def _tell_batcher(self) -> None:
        """Makes room in the lane. Repeated for a while: a lane that never hears of it cuts fewer batches at once for ever."""
        closed = ClosedBatch(batch_id=self._batch_id)
        for failures in range(TELLING_TRIES):
            if failures:
                await workflow.sleep(mending.pause_after(failures - 1), summary="the lane's Batcher took no signal")
            if await _signal(names.batcher_id(self._request.lane), "settlement_closed", closed):
                return


async def _signal(workflow_id: str, name: str, argument: object) -> bool:
    """Whether the workflow took the signal. One that is not there is none to wait for, so the caller decides."""
    try:
        await workflow.get_external_workflow_handle(workflow_id).signal(name, argument)
    except FailureError as error:
        workflow.logger.info("%s took no signal %s: %s", workflow_id, name, error)
        return False
    return True
