"""Writes to the journal what no other activity writes along with its own work: failures, retries, refusals at the doors."""

from datetime import UTC, datetime

import structlog
from pydantic import BaseModel, ConfigDict
from temporalio import activity

from activities.errors import application_errors
from settlement.bets import Rejection
from settlement.lifecycle import LEGAL_TRANSITIONS, BatchStatus, Transition
from settlement.ports import Journal

logger = structlog.get_logger(__name__)


def transition(sequence: int, status: BatchStatus, detail: str = "") -> Transition:
    """The transition number `sequence` of a batch, as of now."""
    return Transition(sequence=sequence, status=status, at=datetime.now(UTC), detail=detail)


class StatusRequest(BaseModel):
    """One transition to write, as number `sequence` or later. `alert`: a person must look."""

    model_config = ConfigDict(frozen=True)

    batch_id: str
    sequence: int
    status: BatchStatus
    detail: str
    alert: bool


class Recording:
    """Activities that only write to the journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    @activity.defn
    async def record_status(self, request: StatusRequest) -> int:
        """Writes the transition, and an alert into the log where one is asked for; answers under which number it stands.

        The journal may be ahead of the workflow, where an activity's work was done and its answer lost, or a stalled try went on. A
        status that cannot follow the one that it has is not written: neither the same again, which makes a repeat harmless, nor
        any after Confirmed. The workflow will learn of what there is. Of a batch whose claim has not reached it there is nothing to
        write.
        """
        if request.alert:
            logger.error("batch_failed", batch_id=request.batch_id, why=request.detail)
        with application_errors():
            batch = await self._journal.batch(request.batch_id)
            if batch is None:
                return request.sequence
            latest = batch.transitions[-1]
            if request.status not in LEGAL_TRANSITIONS[batch.status]:
                return latest.sequence
            sequence = max(request.sequence, latest.sequence + 1)
            await self._journal.record_transition(
                request.batch_id, transition(sequence, request.status, request.detail)
            )
            return sequence

    @activity.defn
    async def record_rejections(self, rejections: list[Rejection]) -> None:
        """Keeps what was refused at a door."""
        with application_errors():
            await self._journal.record_rejections(rejections)
