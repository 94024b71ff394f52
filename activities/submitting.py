"""Signs, sends and confirms a batch's transaction. What is signed is durable, and in the history, before it is sent: nothing else is."""

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog
from pydantic import BaseModel, ConfigDict
from temporalio import activity

from activities.errors import application_errors
from activities.heartbeats import heartbeating
from activities.recording import transition
from settlement.batches import Landing, Proof, Sighting, SignedAttempt, Standing, Statement, Verdict
from settlement.errors import BatchUnknown, JournalUnavailable, LaneUnavailable, TemporalRefused
from settlement.lifecycle import BatchStatus
from settlement.ports import Intake, Journal, Ledger

RESEND_SECONDS: Final = 2.0
"""How often the same bytes are sent again while they may still land and no node shows them."""

UNSEEN_SECONDS: Final = 5.0
SEEN_SECONDS: Final = 20.0
"""After so long the chain is asked for a verdict on attempts that a node does not show, or shows undecided."""

logger = structlog.get_logger(__name__)


class SignRequest(BaseModel):
    """What to sign. `attempt`: how many the workflow has signed before; `live`: those of them that may still land.

    `proved_sequence`: number of the transition to Proved, None for a batch that is Confirmed and whose landing a fork has undone.
    """

    model_config = ConfigDict(frozen=True)

    batch_id: str
    statement: Statement
    proof: Proof
    attempt: int
    proved_sequence: int | None
    live: tuple[SignedAttempt, ...] = ()


class ConfirmRequest(BaseModel):
    """What to wait for. `live`: the attempts that the workflow remembers as ones that may still land.

    `send`: they are to be sent first, the latest having just been signed. `submitted_sequence`: number of the transition to Submitted
    that this makes, None if the batch was there before; `confirmed_sequence`: of that to Confirmed. `until_final`: the batch is
    Confirmed, at a commitment that a fork can undo, and is watched until none can. `started_by`: the run of the lane's Batcher that
    hears the end of the batch's workflow as its child's, which follows upon the outcome; None if none does.
    """

    model_config = ConfigDict(frozen=True)

    batch_id: str
    statement: Statement
    confirmed_sequence: int
    live: tuple[SignedAttempt, ...] = ()
    send: bool = False
    submitted_sequence: int | None = None
    until_final: bool = False
    started_by: str | None = None


class ConfirmOutcome(BaseModel):
    """What became of the batch. `lane_told`: its lane's Batcher has heard that it has landed."""

    model_config = ConfigDict(frozen=True)

    verdict: Verdict
    lane_told: bool = False


class Submitting:
    """Activities that bring a proven batch onto the chain."""

    def __init__(self, journal: Journal, ledger: Ledger, intake: Intake) -> None:
        self._journal = journal
        self._ledger = ledger
        self._intake = intake

    @activity.defn
    async def sign_settlement(self, request: SignRequest) -> SignedAttempt:
        """Signs one more attempt and keeps it, or answers the one that an interrupted try has kept. Sends nothing.

        A try that dies after any of its steps leaves what the next one completes:
        - Proved, and the statement: recorded once, by the transition's number and by the root;
        - attempts put back: by their signatures, so each once;
        - signed, but not kept: nobody has the bytes any more, so they cannot land, and the next try signs others;
        - kept, but not answered: the next try answers what is kept. Of two tries at once, the second finds the first one's attempt
          under its number and answers that: bytes that are not kept are never answered, and so never sent.
        """
        with application_errors():
            async with heartbeating():
                return await self._sign(request)

    async def _sign(self, request: SignRequest) -> SignedAttempt:
        statement = request.statement
        if request.proved_sequence is not None:
            await self._journal.record_transition(
                request.batch_id,
                transition(request.proved_sequence, BatchStatus.PROVED, f"{request.proof.milliseconds} ms"),
            )
        await self._journal.record_statement(request.batch_id, statement, request.proof)
        kept = await self._attempts(request.batch_id, request.live)
        if request.live:
            # Never a second one beside one that may still land.
            return request.live[-1]
        if kept and kept[-1].attempt >= request.attempt and _settles(kept[-1], statement):
            return kept[-1]
        following = kept[-1].attempt + 1 if kept else 0
        # A journal that has lost attempts counts fewer than the workflow.
        signed = await self._ledger.sign(statement, request.proof, max(following, request.attempt))
        recorded = await self._journal.record_attempt(request.batch_id, signed)
        if not _settles(recorded, statement):
            raise JournalUnavailable(
                f"another attempt of batch {request.batch_id} was signed at the same moment: again"
            )
        return recorded

    @activity.defn
    async def confirm_settlement(self, request: ConfirmRequest) -> ConfirmOutcome:
        """Sends what was signed, and asks the chain about all attempts ever signed until one has settled the batch or none can.

        Never gives up by the clock: an outcome that is not known yet is neither success nor failure. Sends, and sends again, only what
        the workflow's history holds as well as the journal. A try that dies changes nothing that the next one would not: sent bytes
        are the same, Submitted has its number, Confirmed is one write, with the landing, which a repeat finds there, and a lane that is
        told of a batch again has no slot of it any more.
        """
        with application_errors():
            async with heartbeating():
                if request.send:
                    await self._send(request)
                verdict = await self._confirm(request)
                is_news = verdict.standing is Standing.SETTLED and not request.until_final
                lane_told = is_news and await self._tell_lane(request, ends_now=verdict.final)
                return ConfirmOutcome(verdict=verdict, lane_told=lane_told)

    async def _send(self, request: ConfirmRequest) -> None:
        for attempt in request.live:
            await self._ledger.broadcast(attempt)
        if request.submitted_sequence is not None:
            submitted = transition(request.submitted_sequence, BatchStatus.SUBMITTED, request.live[-1].signature)
            await self._journal.record_transition(request.batch_id, submitted)

    async def _confirm(self, request: ConfirmRequest) -> Verdict:
        clock = asyncio.get_running_loop().time
        resent = clock()
        while True:
            attempts, is_known = await self._attempts_to_judge(request)
            resent = await self._await_news(request, attempts, resent)
            verdict = await self._ledger.judge(request.statement, attempts, at_finality=request.until_final)
            if verdict.standing is Standing.NONE_LIVE:
                return verdict
            if not is_known and not request.until_final:
                raise BatchUnknown(f"the journal holds no batch {request.batch_id}, of which an attempt was signed")
            if verdict.landing is not None:
                return await self._settled(request, verdict, verdict.landing)
            # What one node shows does not say that the others need no resending.
            resent = await self._resent(request, resent)

    async def _await_news(self, request: ConfirmRequest, attempts: Sequence[SignedAttempt], resent: float) -> float:
        """Returns once a verdict may have changed, by what a node shows or after a while; resends what it does not show.

        `resent`, and the answer: when, by the loop's clock.
        """
        clock = asyncio.get_running_loop().time
        began = clock()
        while_seen, patience = 0.0, UNSEEN_SECONDS
        while clock() - began < patience:
            sighting = await self._ledger.sight(attempts, at_finality=request.until_final, while_seen=while_seen)
            is_seen = sighting is Sighting.SEEN
            patience = SEEN_SECONDS if is_seen else UNSEEN_SECONDS
            while_seen = max(began + patience - clock(), 0.0) if is_seen else 0.0
            if sighting is Sighting.DECIDED:
                break
            if sighting is Sighting.UNSEEN:
                resent = await self._resent(request, resent)
        return resent

    async def _resent(self, request: ConfirmRequest, resent: float) -> float:
        """Sends what may still land again, if that is due; answers when it was sent last."""
        clock = asyncio.get_running_loop().time
        if clock() - resent < RESEND_SECONDS:
            return resent
        for attempt in request.live:
            await self._ledger.broadcast(attempt)
        return clock()

    async def _settled(self, request: ConfirmRequest, verdict: Verdict, landing: Landing) -> Verdict:
        """Records how the batch has landed; answers what stands."""
        summary = await self._journal.batch(request.batch_id)
        if request.until_final:
            if summary is None:
                # Reconciliation finds the chain's record and has the batch claimed again.
                logger.warning("landing_not_amended", batch_id=request.batch_id, signature=landing.signature)
            elif summary.landing is None or _place(summary.landing) != _place(landing):
                await self._journal.amend_landing(request.batch_id, landing)
            return verdict
        if summary is not None and summary.landing is not None:
            # A try whose answer was lost has recorded it. Should a fork have undone that landing since, the watch amends it.
            is_same = _place(summary.landing) == _place(landing)
            return verdict.model_copy(update={"landing": summary.landing, "final": verdict.final and is_same})
        statement = request.statement
        if summary is None or (summary.number, summary.bets_root) != (statement.number, statement.bets_root):
            raise BatchUnknown(
                f"the chain has settled batch {request.batch_id} as number {statement.number}, but the journal holds an older state"
                " of it"
            )
        await self._journal.confirm(
            request.batch_id,
            landing,
            transition(request.confirmed_sequence, BatchStatus.CONFIRMED, landing.signature),
        )
        return verdict

    async def _tell_lane(self, request: ConfirmRequest, *, ends_now: bool) -> bool:
        """Makes room in the lane at less cost for Temporal than a signal from the workflow, which tells it if this fails.

        `ends_now`: the workflow ends upon this, which the Batcher's run that started it hears by itself, if that still runs.
        """
        lane, started_by = request.statement.lane, request.started_by
        try:
            if ends_now and started_by is not None and await self._intake.is_run(lane, started_by):
                return True
            return await self._intake.tell_closed(lane, request.batch_id)
        except (LaneUnavailable, TemporalRefused) as error:
            logger.info("lane_not_told", batch_id=request.batch_id, error=str(error))
            return False

    async def _attempts_to_judge(self, request: ConfirmRequest) -> tuple[list[SignedAttempt], bool]:
        """Every attempt that journal and history know of, and whether the journal holds the batch."""
        try:
            return await self._attempts(request.batch_id, request.live), True
        except BatchUnknown:
            return list(request.live), False

    async def _attempts(self, batch_id: str, live: Sequence[SignedAttempt]) -> list[SignedAttempt]:
        """Every attempt that the journal holds, and those of `live`, which it gets back if it has lost them."""
        kept = await self._journal.attempts(batch_id)
        if {attempt.signature for attempt in live} <= {attempt.signature for attempt in kept}:
            return kept
        logger.warning("attempts_restored", batch_id=batch_id, signatures=[attempt.signature for attempt in live])
        await self._journal.restore_attempts(batch_id, live)
        return await self._journal.attempts(batch_id)


def _settles(attempt: SignedAttempt, statement: Statement) -> bool:
    return (attempt.number, attempt.bets_root) == (statement.number, statement.bets_root)


def _place(landing: Landing) -> tuple[str, int]:
    """Where a batch landed. What else a landing says depends on how much history the node keeps that was asked."""
    return landing.signature, landing.slot
