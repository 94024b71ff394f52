"""Signs, sends and confirms a batch's transaction. Each step is durable before the next one may begin."""

import asyncio
from typing import Final

from pydantic import BaseModel, ConfigDict
from temporalio import activity

from activities.errors import application_errors
from activities.heartbeats import heartbeating
from activities.recording import transition
from settlement.batches import Proof, SignedAttempt, Standing, Statement, Verdict
from settlement.errors import JournalUnavailable
from settlement.lifecycle import BatchStatus
from settlement.ports import Journal, Ledger

RESEND_SECONDS: Final = 2.0
"""How often the same bytes are sent again while they may still land."""

POLL_SECONDS: Final = 0.5


class SignRequest(BaseModel):
    """What to sign. `attempt`: how many the workflow has signed before; `proved_sequence`: number of the transition to Proved."""

    model_config = ConfigDict(frozen=True)

    batch_id: str
    statement: Statement
    proof: Proof
    attempt: int
    proved_sequence: int


class SubmitRequest(BaseModel):
    """What to send. `submitted_sequence`: number of the transition to Submitted, None if the batch is there already."""

    model_config = ConfigDict(frozen=True)

    batch_id: str
    attempt: SignedAttempt
    submitted_sequence: int | None


class ConfirmRequest(BaseModel):
    """What to wait for. `confirmed_sequence`: number of the transition to Confirmed."""

    model_config = ConfigDict(frozen=True)

    batch_id: str
    statement: Statement
    confirmed_sequence: int


class Submitting:
    """Activities that bring a proven batch onto the chain."""

    def __init__(self, journal: Journal, ledger: Ledger) -> None:
        self._journal = journal
        self._ledger = ledger

    @activity.defn
    async def sign_settlement(self, request: SignRequest) -> SignedAttempt:
        """Signs one more attempt and keeps it, or answers the one that an interrupted try has kept. Sends nothing."""
        with application_errors():
            async with heartbeating():
                return await self._sign(request)

    async def _sign(self, request: SignRequest) -> SignedAttempt:
        statement = request.statement
        await self._journal.record_transition(
            request.batch_id,
            transition(request.proved_sequence, BatchStatus.PROVED, f"{request.proof.milliseconds} ms"),
        )
        await self._journal.record_statement(request.batch_id, statement, request.proof)
        kept = await self._journal.attempts(request.batch_id)
        if kept and kept[-1].attempt >= request.attempt and _settles(kept[-1], statement):
            return kept[-1]
        signed = await self._ledger.sign(statement, request.proof, kept[-1].attempt + 1 if kept else request.attempt)
        recorded = await self._journal.record_attempt(request.batch_id, signed)
        if not _settles(recorded, statement):
            raise JournalUnavailable(
                f"another attempt of batch {request.batch_id} was signed at the same moment: again"
            )
        return recorded

    @activity.defn
    async def submit_settlement(self, request: SubmitRequest) -> None:
        """Sends the attempt's bytes, which history and journal hold by now. Sending them twice changes nothing."""
        with application_errors():
            async with heartbeating():
                await self._ledger.broadcast(request.attempt)
                if request.submitted_sequence is not None:
                    await self._journal.record_transition(
                        request.batch_id,
                        transition(request.submitted_sequence, BatchStatus.SUBMITTED, request.attempt.signature),
                    )

    @activity.defn
    async def confirm_settlement(self, request: ConfirmRequest) -> Verdict:
        """Asks the chain about all attempts ever signed, resending them, until one has settled the batch or none can.

        Never gives up by the clock: an outcome that is not known yet is neither success nor failure.
        """
        with application_errors():
            async with heartbeating():
                return await self._confirm(request)

    async def _confirm(self, request: ConfirmRequest) -> Verdict:
        clock = asyncio.get_running_loop().time
        resend_at = clock() + RESEND_SECONDS
        while True:
            attempts = await self._journal.attempts(request.batch_id)
            verdict = await self._ledger.judge(request.statement, attempts)
            if verdict.landing is not None:
                await self._journal.confirm(
                    request.batch_id,
                    verdict.landing,
                    transition(request.confirmed_sequence, BatchStatus.CONFIRMED, verdict.landing.signature),
                )
            if verdict.standing is not Standing.PENDING:
                return verdict
            if clock() >= resend_at:
                for attempt in attempts:
                    await self._ledger.broadcast(attempt)
                resend_at = clock() + RESEND_SECONDS
            await asyncio.sleep(POLL_SECONDS)


def _settles(attempt: SignedAttempt, statement: Statement) -> bool:
    return (attempt.number, attempt.bets_root) == (statement.number, statement.bets_root)
