"""A batch's life: six states and the transitions that are legal between them. Nothing else may change a status."""

from enum import StrEnum
from typing import Final

from pydantic import AwareDatetime, BaseModel, ConfigDict

from settlement.errors import IllegalTransition


class BatchStatus(StrEnum):
    """What has been checked about a batch, never more. *Confirmed*: the chain was asked and said so."""

    PENDING = "Pending"
    PROVING = "Proving"
    PROVED = "Proved"
    SUBMITTED = "Submitted"
    CONFIRMED = "Confirmed"
    FAILED = "Failed"


LEGAL_TRANSITIONS: Final[dict[BatchStatus, frozenset[BatchStatus]]] = {
    # Confirmed is in reach from here on: another run of the same batch may have settled it already.
    BatchStatus.PENDING: frozenset({BatchStatus.PROVING, BatchStatus.CONFIRMED, BatchStatus.FAILED}),
    # Back to Pending: the claim is repeated because its answer was lost, the chain refused a bet, or the number was taken.
    BatchStatus.PROVING: frozenset(
        {BatchStatus.PROVED, BatchStatus.PENDING, BatchStatus.CONFIRMED, BatchStatus.FAILED}
    ),
    BatchStatus.PROVED: frozenset(
        {BatchStatus.SUBMITTED, BatchStatus.PENDING, BatchStatus.CONFIRMED, BatchStatus.FAILED}
    ),
    BatchStatus.SUBMITTED: frozenset({BatchStatus.CONFIRMED, BatchStatus.PENDING, BatchStatus.FAILED}),
    # A person's `retry`: from the start, or, where a signed attempt may still land, from judging it.
    BatchStatus.FAILED: frozenset({BatchStatus.PENDING, BatchStatus.SUBMITTED}),
    BatchStatus.CONFIRMED: frozenset(),
}


class Transition(BaseModel):
    """One step of a batch's life. `sequence` counts from 0 per batch and makes recording it idempotent."""

    model_config = ConfigDict(frozen=True)

    sequence: int
    status: BatchStatus
    at: AwareDatetime
    detail: str = ""


def check_transition(current: BatchStatus, following: BatchStatus) -> None:
    """Raises `IllegalTransition` unless a batch may go from `current` to `following`."""
    if following not in LEGAL_TRANSITIONS[current]:
        raise IllegalTransition(f"a batch cannot go from {current} to {following}")
