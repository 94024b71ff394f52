"""What a lane holds: its queue, the bets it knows, its batches in flight. One object, which a Batcher's runs hand on to each other."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from settlement.batches import batch_id
from settlement.bets import Bet, Rejection


class QueuedBet(BaseModel):
    """A bet that waits to be cut into a batch. `tracked`: it has a workflow of its own."""

    bet: Bet
    since: datetime
    tracked: bool


class KnownBet(BaseModel):
    """A bet that the lane took in: enough to tell a duplicate from a conflict. `batch_id`: None while it is queued."""

    digest: str
    batch_id: str | None


class Cut(BaseModel):
    """A batch that was cut, until its Settlement is known to have started. `after`: batches that were in flight then."""

    bets: list[QueuedBet]
    after: tuple[str, ...]

    def batch_id(self, lane: int) -> str:
        """The Settlement's workflow id."""
        return batch_id(lane, [queued.bet for queued in self.bets])


class Counters(BaseModel):
    """Since the lane began."""

    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    batches: int = 0


class BatcherState(BaseModel):
    """Everything that a lane knows. Dicts keep their order, so that every replay sees the same.

    `cut`: a batch whose Settlement is not known to have started. `opened`: it holds what the lane's runs before it have left behind, so
    bets may be answered and cut. Until then `adopted` names the runs taken over so far, `closed` the batches that have told their end,
    and `pause_asked` is what an operator has asked for. `lost`: what could not be taken over, for a person to read.
    """

    queue: list[QueuedBet] = Field(default_factory=list[QueuedBet])
    known: dict[str, KnownBet] = Field(default_factory=dict[str, KnownBet])
    in_flight: dict[str, int] = Field(default_factory=dict[str, int])
    cut: Cut | None = None
    rejections: list[Rejection] = Field(default_factory=list[Rejection])
    counters: Counters = Field(default_factory=Counters)
    paused: bool = False
    opened: bool = False
    adopted: list[str] = Field(default_factory=list[str])
    closed: list[str] = Field(default_factory=list[str])
    pause_asked: bool | None = None
    lost: list[str] = Field(default_factory=list[str])


class LookBack(BaseModel):
    """Asks for the latest run of a lane's Batcher that ended before the run `run_id`, other than those in `adopted`.

    `begun`: when the first of the runs began that have continued as `run_id`.
    """

    model_config = ConfigDict(frozen=True)

    lane: int
    run_id: str
    begun: datetime
    adopted: tuple[str, ...]


class Estate(BaseModel):
    """What a run that ended has left behind, its rejections apart. `state`: None if Temporal has forgotten the run (`lost` says so).

    `unheard`: no worker has ever taken the run up, so its signals are to be read from its history.
    """

    model_config = ConfigDict(frozen=True)

    run_id: str
    state: BatcherState | None
    unheard: bool = False
    lost: str = ""


class UnheardSignal(BaseModel):
    """A signal as Temporal has recorded it. `arguments`: each argument's payload, serialised, in base64."""

    model_config = ConfigDict(frozen=True)

    name: str
    arguments: tuple[str, ...]


class UnheardSignals(BaseModel):
    """A page of a run's signals. `after`: the event to go on after; None if these are the last."""

    model_config = ConfigDict(frozen=True)

    signals: tuple[UnheardSignal, ...]
    after: int | None
