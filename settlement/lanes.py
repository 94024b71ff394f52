"""What a lane holds: its queue, the bets it knows, its batches in flight. One object, which a Batcher's runs hand on to each other."""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from settlement.batches import batch_id
from settlement.bets import Bet, Rejection
from settlement.breaker import Breaker


class QueuedBet(BaseModel):
    """A bet that waits to be cut into a batch. `tracked`: it has a workflow of its own."""

    bet: Bet
    since: datetime
    tracked: bool


class RecentBatch(BaseModel):
    """Bets of a batch that the lane cut: the digest of each by its id, enough to tell a duplicate from a conflict."""

    batch_id: str
    digests: dict[str, str]


class Cut(BaseModel):
    """A batch that was cut, until its Settlement is known to have started. `after`: batches that were in flight then."""

    bets: list[QueuedBet]
    after: tuple[str, ...]

    def batch_id(self, lane: int) -> str:
        """The Settlement's workflow id."""
        return batch_id(lane, [queued.bet for queued in self.bets])


class Counters(BaseModel):
    """Since the lane began. A parked bet counts once it is taken up."""

    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    batches: int = 0


class LaneState(StrEnum):
    """What a lane does, in a word to search for. *Opening*: it takes over from the run before. *Saturated*: it refuses updates."""

    OPEN = "open"
    PAUSED = "paused"
    SATURATED = "saturated"
    BREAKER_OPEN = "breaker_open"
    OPENING = "opening"


class BatcherState(BaseModel):
    """Everything that a lane knows. Dicts keep their order, so that every replay sees the same.

    `cuts`: batches whose Settlements are not known to have started. `recent`: the latest batches, oldest first. `opened`: it holds what
    the lane's runs before it have left behind, so bets may be answered and cut. Until then `adopted` names the runs taken over so far,
    `closed` the batches that have told their end, and `pause_asked` is what an operator has asked for. `lost`: what could not be taken
    over, for a person to read.

    Signalled bets beyond the queue's bound come into `overflow`, behind it, and from there in pages into the journal, where `parked` bets
    stand between the two. `looked`: the journal was asked how many, which a run that ended may not have known. `taken`: up to which
    position they were taken back into the queue; `unparked`: up to which the journal is known to have removed them.
    """

    queue: list[QueuedBet] = Field(default_factory=list[QueuedBet])
    overflow: list[QueuedBet] = Field(default_factory=list[QueuedBet])
    parked: int = 0
    looked: bool = False
    taken: int = 0
    unparked: int = 0
    recent: list[RecentBatch] = Field(default_factory=list[RecentBatch])
    in_flight: dict[str, int] = Field(default_factory=dict[str, int])
    cuts: list[Cut] = Field(default_factory=list[Cut])
    breaker: Breaker = Field(default_factory=Breaker)
    rejections: list[Rejection] = Field(default_factory=list[Rejection])
    counters: Counters = Field(default_factory=Counters)
    paused: bool = False
    opened: bool = False
    adopted: list[str] = Field(default_factory=list[str])
    closed: list[str] = Field(default_factory=list[str])
    pause_asked: bool | None = None
    lost: list[str] = Field(default_factory=list[str])


class Parking(BaseModel):
    """What came of parking bets. `parked`: how many the lane has in the journal now.

    `duplicates`: how many are known there already; `conflicts`: ids of those of which another content is.
    """

    model_config = ConfigDict(frozen=True)

    parked: int
    duplicates: int = 0
    conflicts: tuple[str, ...] = ()


class ParkedPage(BaseModel):
    """The first of a lane's parked bets, in the order of their coming. `last`: the position of the last; `left`: how many follow."""

    model_config = ConfigDict(frozen=True)

    bets: tuple[QueuedBet, ...]
    last: int
    left: int


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
    """What a run that ended has left behind, its rejections and its overflow apart.

    `state`: None if Temporal has forgotten the run (`lost` says so). `unheard`: no worker has ever taken the run up, so its signals
    are to be read from its history.
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
