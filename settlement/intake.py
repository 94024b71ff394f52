"""What a client hears of a bet at once, through whichever door it came."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from settlement.bets import RejectionReason


class Door(StrEnum):
    """How a bet is sent. *Update*: many at once, each answered; *signal*: no answer; *workflow*: one of its own, with a receipt."""

    UPDATE = "update"
    SIGNAL = "signal"
    WORKFLOW = "workflow"


class Answer(StrEnum):
    """*Accepted*: durable, and settled or rejected with a reason in time. *Duplicate*: the same bet was accepted before."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"


class BetOutcome(BaseModel):
    """The answer for one bet. `batch_id`: where a duplicate's original is, if it is in a batch yet. `reason` and `detail`: why not."""

    model_config = ConfigDict(frozen=True)

    bet_id: str | None
    answer: Answer
    batch_id: str | None = None
    reason: RejectionReason | None = None
    detail: str = ""
