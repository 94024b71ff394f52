"""One batch's way onto the chain: claim ▶ prove ▶ sign ▶ submit ▶ confirm. Decides what is next; never asks a chain itself.

No failure loses a bet: what may pass is tried again, what the chain refuses is taken out and the rest proven again, and anything
else parks the batch as Failed until a person sends `retry` or, where a mend can be noticed, until it works again.
"""

from datetime import datetime, timedelta
from typing import Final

from pydantic import BaseModel, ConfigDict
from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, FailureError

with workflow.unsafe.imports_passed_through():
    from activities.claiming import Claiming, ClaimOutcome, ClaimRequest
    from activities.proving import Proving
    from activities.recording import Recording, StatusRequest
    from activities.submitting import ConfirmRequest, SignRequest, SubmitRequest, Submitting
    from settlement import errors
    from settlement.batches import Landing, Proof, Standing, Statement, batch_id
    from settlement.bets import Bet
    from settlement.lifecycle import BatchStatus, check_transition
    from workflows import names, policies, visibility
    from workflows.bet import BatchNews

REFUSED_BY_CHAIN: Final = frozenset({errors.VaultUncovered.__name__, errors.BatchNumberTaken.__name__})
"""Refusals that another claim mends: by ejecting a bet, or by another number."""

MENDED_FROM_OUTSIDE: Final = frozenset(
    {
        errors.LedgerMisconfigured.__name__,
        errors.HouseUncovered.__name__,
        errors.JournalMisconfigured.__name__,
        errors.ProvingKeyMissing.__name__,
    }
)
"""Failures that an operator mends without touching the batch, so it tries again by itself."""

FIRST_PAUSE: Final = timedelta(seconds=1)
LONGEST_PAUSE: Final = timedelta(minutes=5)
"""Pauses double from the first to the longest while a batch waits for what it cannot hurry."""

MAX_DETAIL_CHARS: Final = 500
"""A longer error text is cut in transitions."""

MAX_SUMMARY_CHARS: Final = 200
"""Temporal's summaries are limited to 400 bytes."""

SHOWN_TRANSITIONS: Final = 30
"""The Web UI's details show this many of the latest; the journal has them all."""


class ShownTransition(BaseModel):
    """A transition as the Web UI and the `status` query show it."""

    status: BatchStatus
    at: datetime
    detail: str


class SettlementState(BaseModel):
    """All that a settlement knows, carried whole through continue-as-new.

    `sequence`: the next transition's number; `pending_sequence`, `proved_sequence`: those of the latest such transitions.
    `attempts`: how many transactions were signed; `may_land`: one of them may still land. `taken`: a number that the chain has
    given to another batch. `pauses`: how often it has waited.
    """

    status: BatchStatus = BatchStatus.PENDING
    sequence: int = 1
    pending_sequence: int = 0
    pending_detail: str = ""
    proved_sequence: int = 0
    transitions: list[ShownTransition] = []
    number: int | None = None
    settling: int = 0
    refused: int = 0
    duplicates: int = 0
    waiting_for: str = ""
    statement: Statement | None = None
    proof: Proof | None = None
    attempts: int = 0
    may_land: bool = False
    taken: int | None = None
    pauses: int = 0
    retry_asked: bool = False


class SettlementInput(BaseModel):
    """A batch as its lane's Batcher cut it. `tracked`: ids of the bets that have a workflow of their own."""

    model_config = ConfigDict(frozen=True)

    lane: int
    bets: tuple[Bet, ...]
    tracked: tuple[str, ...] = ()
    carried: SettlementState | None = None


class SettlementResult(BaseModel):
    """How the batch ended. `landing` is None only if no bet was left to settle."""

    model_config = ConfigDict(frozen=True)

    batch_id: str
    lane: int
    number: int | None
    status: BatchStatus
    settled: int
    refused: int
    duplicates: int
    landing: Landing | None


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


@workflow.defn
class Settlement:
    """Workflow `settlement-<lane>-<digest>`. Signal `retry` wakes a parked batch; query `status` shows where it is."""

    @workflow.init
    def __init__(self, request: SettlementInput) -> None:
        self._request = request
        self._batch_id = workflow.info().workflow_id
        self._state = request.carried or SettlementState(settling=len(request.bets))
        self._landing: Landing | None = None

    @workflow.run
    async def run(self, request: SettlementInput) -> SettlementResult:
        if self._batch_id != batch_id(request.lane, request.bets):
            raise ApplicationError(
                f"a settlement's workflow id must follow from its bets: {batch_id(request.lane, request.bets)}",
                non_retryable=True,
            )
        if request.carried is None:
            self._show(BatchStatus.PENDING, "")
        while True:
            try:
                if await self._settle():
                    break
            except ActivityError as error:
                if not isinstance(error.cause, ApplicationError):
                    raise
                await self._recover(error.cause)
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(request.model_copy(update={"carried": self._state}))
        await self._report(final=True)
        await self._tell_batcher()
        return SettlementResult(
            batch_id=self._batch_id,
            lane=request.lane,
            number=self._state.number,
            status=self._state.status,
            settled=self._state.settling if self._landing else 0,
            refused=self._state.refused,
            duplicates=self._state.duplicates,
            landing=self._landing,
        )

    @workflow.signal
    def retry(self) -> None:
        """Wakes a batch that is parked as Failed."""
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
            bets=len(self._request.bets),
            settling=state.settling,
            refused=state.refused,
            duplicates=state.duplicates,
            waiting_for=state.waiting_for,
            transitions=state.transitions,
        )

    async def _settle(self) -> bool:
        """Takes the batch as far as it goes; False if it has to wait for others first."""
        state = self._state
        if not state.may_land:
            outcome = await self._claim()
            if outcome.waiting_for:
                await self._pause(outcome.waiting_for)
                return False
            if outcome.statement is None:
                await self._fail("no bet is left to settle", alert=False)
                return True
            state.statement = outcome.statement
            state.proof = await self._prove(outcome.statement)
            await self._sign_and_submit()
        while not await self._confirm():
            state.may_land = False
            await self._sign_and_submit()
        return True

    async def _claim(self) -> ClaimOutcome:
        state = self._state
        if state.status is not BatchStatus.PENDING:
            state.pending_sequence = self._advance(BatchStatus.PENDING, state.pending_detail)
        outcome = await workflow.execute_activity_method(
            Claiming.claim_batch,
            ClaimRequest(
                batch_id=self._batch_id,
                lane=self._request.lane,
                bets=self._request.bets,
                pending_sequence=state.pending_sequence,
                pending_detail=state.pending_detail,
                proving_sequence=state.sequence,
                taken=state.taken,
            ),
            start_to_close_timeout=policies.SHORT_CALL_TIMEOUT,
            retry_policy=policies.RETRY_UNTIL_DONE,
            summary=f"{len(self._request.bets)} bets",
        )
        state.number, state.settling, state.taken = outcome.number, outcome.settling, None
        state.refused, state.duplicates = len(outcome.refused), len(outcome.duplicates)
        visibility.show(visibility.BATCH_NUMBER.value_set(outcome.number))
        if outcome.statement is not None:
            self._advance(BatchStatus.PROVING)
            await self._report(final=False)
        return outcome

    async def _prove(self, statement: Statement) -> Proof:
        proof = await workflow.execute_activity_method(
            Proving.prove_batch,
            statement,
            task_queue=names.PROVING_QUEUE,
            start_to_close_timeout=policies.PROVE_TIMEOUT,
            heartbeat_timeout=policies.HEARTBEAT_TIMEOUT,
            retry_policy=policies.RETRY_UNTIL_DONE,
            summary=f"batch {statement.number}: {len(statement.entries)} bets, circuit {statement.shape.name}",
        )
        self._state.proved_sequence = self._advance(BatchStatus.PROVED, f"{proof.milliseconds} ms")
        return proof

    async def _sign_and_submit(self) -> None:
        """Brings one more signed transaction on its way, unless the chain has this very batch already."""
        state = self._state
        assert state.statement is not None
        assert state.proof is not None
        try:
            attempt = await workflow.execute_activity_method(
                Submitting.sign_settlement,
                SignRequest(
                    batch_id=self._batch_id,
                    statement=state.statement,
                    proof=state.proof,
                    attempt=state.attempts,
                    proved_sequence=state.proved_sequence,
                ),
                start_to_close_timeout=policies.SHORT_CALL_TIMEOUT,
                retry_policy=policies.RETRY_UNTIL_DONE,
                summary=f"batch {state.number}, attempt {state.attempts}",
            )
        except ActivityError as error:
            if isinstance(error.cause, ApplicationError) and error.cause.type == errors.AlreadySettled.__name__:
                await self._pause("the chain's record of this batch to become final")
                return
            raise
        state.attempts += 1
        # From here on the bytes may reach the chain, whatever happens to the activity that sends them.
        state.may_land = True
        first = state.status is BatchStatus.PROVED
        await workflow.execute_activity_method(
            Submitting.submit_settlement,
            SubmitRequest(
                batch_id=self._batch_id, attempt=attempt, submitted_sequence=state.sequence if first else None
            ),
            start_to_close_timeout=policies.SHORT_CALL_TIMEOUT,
            retry_policy=policies.RETRY_UNTIL_DONE,
            summary=attempt.signature,
        )
        if first:
            self._advance(BatchStatus.SUBMITTED, attempt.signature)

    async def _confirm(self) -> bool:
        state = self._state
        assert state.statement is not None
        verdict = await workflow.execute_activity_method(
            Submitting.confirm_settlement,
            ConfirmRequest(batch_id=self._batch_id, statement=state.statement, confirmed_sequence=state.sequence),
            start_to_close_timeout=policies.CONFIRM_TIMEOUT,
            heartbeat_timeout=policies.HEARTBEAT_TIMEOUT,
            retry_policy=policies.RETRY_UNTIL_DONE,
            summary=f"batch {state.number}, {state.attempts} signed",
        )
        if verdict.standing is not Standing.SETTLED:
            return False
        assert verdict.landing is not None
        self._landing = verdict.landing
        self._advance(BatchStatus.CONFIRMED, f"slot {verdict.landing.slot}, {verdict.landing.signature}")
        return True

    async def _recover(self, cause: ApplicationError) -> None:
        """Decides what a failure that no retry of an activity can mend means for the batch."""
        state = self._state
        detail = f"{cause.type}: {cause.message}"[:MAX_DETAIL_CHARS]
        if cause.type in REFUSED_BY_CHAIN:
            # The ledger raises these only when no attempt can land any more.
            state.may_land = False
            state.pending_detail = detail
            if cause.type == errors.BatchNumberTaken.__name__:
                state.taken = state.number
            await self._pause(detail)
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
        if state.may_land:
            await self._record(BatchStatus.SUBMITTED, reason, alert=False)

    async def _fail(self, detail: str, *, alert: bool) -> None:
        await self._record(BatchStatus.FAILED, detail, alert=alert)

    async def _record(self, status: BatchStatus, detail: str, *, alert: bool) -> None:
        sequence = self._advance(status, detail)
        try:
            await workflow.execute_activity_method(
                Recording.record_status,
                StatusRequest(batch_id=self._batch_id, sequence=sequence, status=status, detail=detail, alert=alert),
                start_to_close_timeout=policies.SHORT_CALL_TIMEOUT,
                retry_policy=policies.RETRY_UNTIL_DONE,
                summary=f"{status}: {detail}"[:MAX_SUMMARY_CHARS],
            )
        except ActivityError as error:
            if not isinstance(error.cause, ApplicationError):
                raise
            # A journal that contradicts this batch is why it parks, so it must not end the workflow that waits for a person.
            workflow.logger.error("the journal refused %s of %s: %s", status, self._batch_id, error.cause)

    async def _pause(self, waiting_for: str) -> None:
        state = self._state
        state.waiting_for = waiting_for
        self._refresh_details()
        await workflow.sleep(self._next_pause(), summary=waiting_for[:MAX_SUMMARY_CHARS])
        state.waiting_for = ""

    def _next_pause(self) -> timedelta:
        pause = min(FIRST_PAUSE * 2 ** min(self._state.pauses, 20), LONGEST_PAUSE)
        self._state.pauses += 1
        return pause

    def _advance(self, status: BatchStatus, detail: str = "") -> int:
        """Moves to `status` and returns the transition's number."""
        state = self._state
        check_transition(state.status, status)
        sequence = state.sequence
        state.sequence += 1
        self._show(status, detail)
        return sequence

    def _show(self, status: BatchStatus, detail: str) -> None:
        state = self._state
        state.status = status
        state.transitions.append(ShownTransition(status=status, at=workflow.now(), detail=detail))
        del state.transitions[:-SHOWN_TRANSITIONS]
        visibility.show(visibility.BATCH_STATUS.value_set(status.value))
        self._refresh_details()

    def _refresh_details(self) -> None:
        state = self._state
        lines = [
            f"**{state.status}** · lane {self._request.lane} · batch number {state.number or 'not given yet'}",
            f"{len(self._request.bets)} bets: {state.settling} to settle, {state.refused} refused, {state.duplicates} duplicates",
        ]
        if state.waiting_for:
            lines.append(f"waiting for {state.waiting_for}")
        lines += [f"- {step.at:%Y-%m-%d %H:%M:%S} {step.status} {step.detail}" for step in state.transitions]
        workflow.set_current_details("\n\n".join(lines[:2]) + "\n\n" + "\n".join(lines[2:]))

    async def _report(self, *, final: bool) -> None:
        """Tells tracked bets about their batch. A bet that is not told asks the journal by itself in time."""
        news = BatchNews(batch_id=self._batch_id, lane=self._request.lane, number=self._state.number, final=final)
        for bet_id in self._request.tracked:
            await _signal(names.bet_workflow_id(bet_id), "news", news)

    async def _tell_batcher(self) -> None:
        await _signal(names.batcher_id(self._request.lane), "settlement_closed", self._batch_id)


async def _signal(workflow_id: str, name: str, argument: object) -> None:
    try:
        await workflow.get_external_workflow_handle(workflow_id).signal(name, argument)
    except FailureError as error:
        workflow.logger.info("%s took no signal %s: %s", workflow_id, name, error)
