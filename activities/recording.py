"""Writes the transitions of a batch that no other activity writes along with its own work: failures and retries."""

from datetime import UTC, datetime

import structlog
from pydantic import BaseModel, ConfigDict
from temporalio import activity

from activities.errors import application_errors
from settlement.lifecycle import BatchStatus, Transition
from settlement.ports import Journal

logger = structlog.get_logger(__name__)


def transition(sequence: int, status: BatchStatus, detail: str = "") -> Transition:
    """The transition number `sequence` of a batch, as of now."""
    return Transition(sequence=sequence, status=status, at=datetime.now(UTC), detail=detail)


class StatusRequest(BaseModel):
    """One transition to write. `alert`: a person must look."""

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
    async def record_status(self, request: StatusRequest) -> None:
        """Writes the transition, and an alert into the log where one is asked for."""
        if request.alert:
            logger.error("batch_failed", batch_id=request.batch_id, why=request.detail)
        with application_errors():
            await self._journal.record_transition(
                request.batch_id, transition(request.sequence, request.status, request.detail)
            )
