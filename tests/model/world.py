"""The state of the model: chain, journal, Temporal's history and running activities, as values that are compared and hashed as a whole.

Bets are bits of a mask, batches and signed attempts places in a tuple. A slot holds one block, which holds at most one transaction.
"""

from enum import StrEnum
from typing import Final, NamedTuple, TypeVar

from settlement.lifecycle import BatchStatus

STATUSES: Final = tuple(BatchStatus)
PENDING, PROVING, PROVED, SUBMITTED, CONFIRMED, FAILED = range(len(STATUSES))

CLAIMED, SETTLED, REJECTED = range(3)
"""Where a bet stands in the journal."""

NOBODY: Final = -1
"""The owner of a bet that no batch has claimed."""

FOREIGN: Final = 99
"""Stands in a block for a record that another system has made, under number 1; and for its root."""
FOREIGN_NUMBER: Final = 1
FOREIGN_BIT: Final = 1 << FOREIGN

EMPTY: Final = 0
"""A block without one of our transactions. One that succeeded is its attempt's place plus one, one that failed is that, negative."""

EXPIRED: Final = -1
"""Heights and slots before those that are kept are this one: all that is compared with them lies behind."""

Value = TypeVar("Value")


class Rule(StrEnum):
    """A rule of the protocol that a run of the search can do without, to show what it is for."""

    DURABLE_BEFORE_BROADCAST = "an attempt is durable before it is broadcast"
    ORDER_OF_READS = "the finalized height is read before statuses and record"
    CONTEXT_SLOTS = "an answer as of a slot behind the finalized one is no answer"
    FINALIZED_HEIGHT = "an attempt expires by the finalized height, not by the newest"
    EXPIRY_PROOF = "an unknown attempt is not dead before its height has passed"
    FINALITY = "a batch is settled only once its record is final"
    ROOT_COMPARISON = "a record is this batch's only if it has its root"
    ONLY_WHAT_FOLLOWS = "parking writes no status that cannot follow the one in the journal"
    HISTORY = "a journal that has lost attempts gets them back from the history"
    EJECT_FENCE = "a bet is ejected only as of the transition that was decided on"
    JUDGED_ATTEMPTS = "a bet is ejected only if every attempt that is kept was judged"
    DEDUPE_BY_CLAIM = "a bet belongs to the batch that claimed it first"
    UNIQUE_NUMBERS = "the journal gives each number once"
    MARKER = "the program settles a number once"
    TWO_NODES = "that nothing can land any more takes the word of two nodes"
    RETRY = "a parked batch is woken"


class Budget(NamedTuple):
    """How often each disturbance may happen on one way through the states."""

    crashes: int = 0
    overtakings: int = 0
    forks: int = 0
    lags: int = 0
    denials: int = 0
    drains: int = 0
    refills: int = 0
    foreign: int = 0
    troubles: int = 0
    restores: int = 0
    wipes: int = 0


class Attempt(NamedTuple):
    """What was signed: it can land in blocks up to height `expires`."""

    batch: int
    number: int
    bets: int
    expires: int


class Batch(NamedTuple):
    """A batch in the journal. `statement`: number and bets of what was proven last. `attempts`: their numbers and places."""

    number: int
    transitions: tuple[int, ...] = (PENDING,)
    statement: tuple[int, int] | None = None
    attempts: tuple[tuple[int, int], ...] = ()
    landing: int | None = None

    @property
    def status(self) -> int:
        return self.transitions[-1]

    @property
    def sequence(self) -> int:
        return len(self.transitions) - 1


class Bet(NamedTuple):
    """A bet in the journal."""

    owner: int = NOBODY
    status: int = CLAIMED


class Run(NamedTuple):
    """A settlement workflow's state, which its history holds.

    `doing`: the activity that it waits for, or `parked`, or `nothing` any more. `live`: attempts that may still land, all for
    `number` and `bets`. `refused`: bets that were ejected. `forgotten`: the journal has lost the batch, or its latest state.
    `revived`: started again by the reconciliation. `unsent`: the latest of `live` has been signed since the last broadcast that was
    asked for; `submitted`: the number of the transition to Submitted that comes with it, or 0.
    """

    doing: str = "claim"
    status: int = PENDING
    sequence: int = 0
    proved: int = 0
    number: int = 0
    bets: int = 0
    attempts: int = 0
    live: tuple[int, ...] = ()
    refused: int = 0
    taken: int = 0
    forgotten: bool = False
    revived: bool = False
    unsent: bool = False
    submitted: int = 0


class Try(NamedTuple):
    """One execution of an activity: the step it takes next and what it has in memory, which dies with its worker.

    `run`: what the workflow knew when it asked for it. `signed`: what was judged of the history's own attempts before anything else.
    `passed`, `dead`, `landed`, `failed`: of the attempts judged, as masks of their places.
    """

    activity: str
    step: str
    run: Run
    number: int = 0
    bets: int = 0
    sequence: int = 0
    uncovered: int = 0
    attempts: int = 0
    finalized: int = EXPIRED
    passed: int = 0
    status_slot: int = EXPIRED
    unknown: int = 0
    dead: int = 0
    landed: int = 0
    failed: int = 0
    record: int | None = None
    record_slot: int = EXPIRED
    attempt: Attempt | None = None
    place: int = 0
    refused: int = 0
    asks_laggard: bool = False
    asks_liar: bool = False
    signed: str = ""


Copy = tuple[tuple[Batch | None, ...], tuple[Bet, ...], int]
"""Of the journal: batches, bets and the last number."""


class World(NamedTuple):
    """Everything. `blocks`: those that may still be undone or shown by a node that lags; the first `final` of them are final.

    `landed`, `failed`: attempts in blocks before these. `pool`: attempts that some node may still put into a block. `covered`: whether
    the vault of the player who lost the last bet covers it. `highest`: the last number that the journal gave. `tries`: of each
    batch the one that Temporal waits for, and one that it has given up but that still runs. `copy`: of the journal, made some time ago.
    """

    batches: tuple[Batch | None, ...]
    bets: tuple[Bet, ...]
    runs: tuple[Run, ...]
    tries: tuple[tuple[Try | None, Try | None], ...]
    left: Budget
    signed: tuple[Attempt, ...] = ()
    blocks: tuple[int, ...] = ()
    final: int = 0
    landed: int = 0
    failed: int = 0
    pool: int = 0
    covered: bool = True
    highest: int = 0
    copy: Copy | None = None


class Bounds(NamedTuple):
    """How far a search goes. `asked`: the bets of each batch as its lane cut it, as masks."""

    asked: tuple[int, ...]
    budget: Budget
    max_attempts: int = 3
    validity_blocks: int = 1
    unfinal_blocks: int = 2
    kept_blocks: int = 0
    two_nodes: bool = False


def replaced(values: tuple[Value, ...], place: int, value: Value) -> tuple[Value, ...]:
    """`values` with another at `place`."""
    return (*values[:place], value, *values[place + 1 :])
