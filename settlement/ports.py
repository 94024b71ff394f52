"""The protocols that adapters fulfil. Activities depend on these; only the composition root knows who stands behind them.

Every method may raise its port's retryable error (`LedgerUnavailable`, `JournalUnavailable`) or say that an operator must mend
something (`LedgerMisconfigured`, `JournalMisconfigured`); others are named.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from settlement.batches import (
    BatchSummary,
    BetRecord,
    Claim,
    ClaimedBatch,
    House,
    Landing,
    Movement,
    OnChainBatch,
    PlayerSlot,
    Proof,
    RefusedBet,
    Sighting,
    SignedAttempt,
    Statement,
    Vault,
    Verdict,
)
from settlement.bets import Bet, Rejection
from settlement.circuits import RegisteredCircuits
from settlement.intake import BetOutcome
from settlement.lanes import Estate, LookBack, ParkedPage, Parking, QueuedBet, UnheardSignals
from settlement.lifecycle import Transition
from settlement.reconciliation import ReconciliationReport


class Prover(Protocol):
    """Turns statements into verified proofs."""

    async def prove(self, statement: Statement) -> Proof:
        """Raises `ProofRejected` if the statement is false, `ProvingKeyMissing` if there is no key for its shape."""
        ...


class LedgerReader(Protocol):
    """What is on the chain; anybody may read it."""

    async def circuits(self) -> RegisteredCircuits:
        """The circuits that are registered, of those that there are shapes for."""
        ...

    async def house(self, lane: int) -> House:
        """Raises `LedgerMisconfigured` if the lane has no house account."""
        ...

    async def vaults(self, lane: int, players: Sequence[str], *, by_quorum: bool = False) -> dict[str, Vault]:
        """The vaults that exist among `players`' on this lane, as whoever has seen most of the chain shows them.

        `by_quorum`: by what is missing then, a bet may be refused for good. Raises `LedgerUnavailable` as long as fewer say so than
        an irrevocable no needs.
        """
        ...

    async def batch_record(self, lane: int, number: int) -> OnChainBatch | None:
        """The record at the configured commitment, or None."""
        ...

    async def batch_records(self, lane: int) -> list[OnChainBatch]:
        """Every record of the lane, finalized."""
        ...

    async def movement(self, signature: str, lane: int, players: Sequence[str]) -> Movement | None:
        """What a finalized transaction moved, or None if the node knows no such transaction."""
        ...


class Ledger(LedgerReader, Protocol):
    """The chain: what is on it, and how a settlement gets there."""

    async def sign(self, statement: Statement, proof: Proof, attempt: int) -> SignedAttempt:
        """Simulates, then signs over a fresh blockhash. Sends nothing.

        Raises `AlreadySettled`, `VaultUncovered`, `HouseUncovered`, `BatchNumberTaken`, `SettlementRefused` or
        `LedgerMisconfigured`.
        """
        ...

    async def broadcast(self, attempt: SignedAttempt) -> None:
        """Sends the attempt's bytes; sending them again is harmless. Returning says nothing of the outcome."""
        ...

    async def judge(
        self, statement: Statement, attempts: Sequence[SignedAttempt], *, at_finality: bool = False
    ) -> Verdict:
        """What the chain says of all attempts ever signed for one batch, at the configured commitment or at finality.

        Raises `BatchNumberTaken`, `VaultUncovered`, `HouseUncovered` or `SettlementRefused` only if no attempt can land any more.
        """
        ...

    async def sight(
        self, attempts: Sequence[SignedAttempt], *, at_finality: bool = False, while_seen: float = 0.0
    ) -> Sighting:
        """What a node shows of them at its next look, a moment later: whether `judge` is worth its price. Never fails.

        `while_seen`: as long as it shows them undecided, it may take so many seconds to answer.
        """
        ...


class Intake(Protocol):
    """The way to a lane's Batcher."""

    async def place(self, bet: Bet, *, tracked: bool) -> BetOutcome:
        """Puts one bet into its lane's queue, starting the Batcher if need be. Raises `LaneSaturated`, `LaneUnavailable`."""
        ...

    async def restart_batcher(self, lane: int) -> bool:
        """Starts the lane's Batcher if the latest run of it has ended; whether it did. Raises `LaneUnavailable`, `TemporalRefused`."""
        ...

    async def is_run(self, lane: int, run_id: str) -> bool:
        """Whether this run of the lane's Batcher is the one that runs now. Raises `LaneUnavailable`, `TemporalRefused`."""
        ...

    async def tell_closed(self, lane: int, batch_id: str) -> bool:
        """Frees the batch's slot in the lane's Batcher; False if none runs. Raises `LaneUnavailable`, `TemporalRefused`."""
        ...


class Predecessors(Protocol):
    """The runs of lanes' Batchers that ended without continuing: terminated, timed out, failed.

    Every method raises `PredecessorUnread` for a run that is there and cannot be read, `LaneUnavailable` where asking again may help.
    """

    async def latest(self, look: LookBack) -> str | None:
        """The run id of the latest that ended, or None."""
        ...

    async def estate(self, lane: int, run_id: str) -> Estate:
        """What the run has left behind, but for its rejections and its overflow."""
        ...

    async def rejections(self, lane: int, run_id: str, start: int, limit: int) -> list[Rejection]:
        """Those that the run has not seen written, from number `start` on."""
        ...

    async def overflow(self, lane: int, run_id: str, start: int, limit: int) -> list[QueuedBet]:
        """Bets behind its queue that the run has not seen parked, from number `start` on."""
        ...

    async def unheard_signals(self, lane: int, run_id: str, after: int) -> UnheardSignals:
        """Signals of a run that no worker ever took up."""
        ...


class Execution(StrEnum):
    """Where the latest run of a batch's workflow stands. *Ended*: terminated, failed or the like, before it was done."""

    RUNNING = "running"
    COMPLETED = "completed"
    ENDED = "ended"
    UNKNOWN = "unknown"


class Revival(StrEnum):
    """What came of starting a batch's workflow again. *Forgotten*: Temporal does not know the bets that it would have to be told."""

    STARTED = "started"
    RUNNING = "running"
    FORGOTTEN = "forgotten"


class Settlements(Protocol):
    """The workflows that bring batches onto the chain, as activities see them.

    Every method raises `LaneUnavailable` where asking again may help, else `TemporalRefused`.
    """

    async def execution(self, batch_id: str) -> Execution:
        """Strongly consistent: a workflow that was started a moment ago is seen."""
        ...

    async def numbered(self, lane: int, number: int) -> list[str]:
        """The batches of the lane that have had this number, as far as Temporal still knows them."""
        ...

    async def in_flight(self, lane: int) -> list[str]:
        """The batches for which the lane's Batcher holds a slot; none if it does not run."""
        ...

    async def revive(self, lane: int, batch_id: str, number: int | None) -> Revival:
        """Starts the workflow of a batch that the journal knows (`number` is None), or has lost and the chain knows as `number`.

        Never a second one beside one that runs. It is told what the run before left out, should the journal have lost that.
        """
        ...

    async def start_again(self, lane: int, batch_id: str) -> Revival:
        """Starts the workflow of a batch that neither journal nor chain knows.

        If it was given a number, it is to be claimed under that again: something may have been signed for it.
        """
        ...


class Journal(Protocol):
    """The record of every bet and batch. All writes are idempotent: doing one twice leaves what doing it once left.

    Any method may raise `JournalMisconfigured`; a write about a batch that contradicts what is recorded raises `JournalConflict`,
    and one about a batch that the journal does not hold `BatchUnknown`.
    """

    async def claim(self, claim: Claim) -> ClaimedBatch:
        """Claims bets for a batch and numbers it; asked again for the same batch, answers the same from what it holds.

        Raises `JournalBehind` where a new number would be given while the chain has batches that the journal may not hold;
        `NumberInUse` if another batch has the number asked for; `JournalUnavailable` if a new batch comes without
        `highest_on_chain`.
        """
        ...

    async def resume(
        self, batch_id: str, lane: int, transition: Transition, number: int | None, refused: Sequence[RefusedBet]
    ) -> ClaimedBatch:
        """Claims a batch again by the bets that the journal holds of it, and answers as `claim` does.

        `number`, `refused`: as in `Claim`, should the journal be behind with them. Raises `BatchUnknown`, `NumberInUse`.
        """
        ...

    async def record_transition(self, batch_id: str, transition: Transition) -> None:
        """Raises `JournalConflict` if another transition has that sequence."""
        ...

    async def eject(
        self, batch_id: str, refused: Sequence[RefusedBet], as_of_sequence: int, judged_attempts: int
    ) -> None:
        """Marks bets of a batch as rejected. Raises `JournalConflict` if its latest transition is not `as_of_sequence`, or if it does

        not have that many attempts: whoever asks has decided on what is not so any more.
        """
        ...

    async def renumber(self, batch_id: str, taken: int, above: int, as_of_sequence: int) -> int:
        """Gives the batch a new number above `above` if it still has the number `taken`; answers its number.

        Raises `JournalConflict`, as `eject` does, if it still has it but its latest transition is not `as_of_sequence`.
        """
        ...

    async def record_statement(self, batch_id: str, statement: Statement, proof: Proof) -> None:
        """Keeps what was proven: root, counts, house delta, circuit, slots and nets."""
        ...

    async def record_attempt(self, batch_id: str, attempt: SignedAttempt) -> SignedAttempt:
        """Keeps a signed attempt before it is sent; if the batch has one of that attempt number already, answers that one.

        Raises `JournalConflict` unless it is for the batch's number and the root of its recorded statement.
        """
        ...

    async def attempts(self, batch_id: str) -> list[SignedAttempt]:
        """Every attempt ever signed for the batch, oldest first. Raises `BatchUnknown`."""
        ...

    async def restore_attempts(self, batch_id: str, attempts: Sequence[SignedAttempt]) -> None:
        """Puts back signed attempts that the journal has lost; each keeps its number, or gets the next free one."""
        ...

    async def confirm(self, batch_id: str, landing: Landing, transition: Transition) -> None:
        """Marks the batch Confirmed and its remaining bets settled. Raises `JournalConflict` on another landing."""
        ...

    async def amend_landing(self, batch_id: str, landing: Landing) -> None:
        """Notes how a Confirmed batch landed for good, where a fork has undone what it was confirmed by."""
        ...

    async def record_rejections(self, rejections: Sequence[Rejection]) -> None:
        """Keeps what never became a bet of a batch; `rejection_id` makes it idempotent."""
        ...

    async def park(self, lane: int, above: int, bets: Sequence[QueuedBet]) -> Parking:
        """Keeps bets, in order, behind those that the lane has parked, but for those that it has parked or any batch has claimed.

        `above`: up to which position parked bets were taken up; those count no more.
        """
        ...

    async def parked(self, lane: int, above: int, limit: int) -> ParkedPage:
        """The lane's first `limit` parked bets above a position."""
        ...

    async def unpark(self, lane: int, up_to: int) -> None:
        """Removes the lane's parked bets up to a position: they were taken up."""
        ...

    async def bet(self, bet_id: str) -> BetRecord | None: ...

    async def batch(self, batch_id: str) -> BatchSummary | None: ...

    async def unknown(self, batch_ids: Sequence[str]) -> list[str]:
        """Those of `batch_ids` that were never claimed."""
        ...

    async def claimed_bets(self, batch_id: str) -> int:
        """How many bets the batch has to settle: those that are neither rejected nor settled."""
        ...

    async def bets_of(self, batch_id: str) -> list[BetRecord]:
        """In the order of their positions, rejected ones included."""
        ...

    async def batches(self, lane: int, after_number: int, limit: int) -> list[BatchSummary]:
        """Up to `limit` of a lane's batches numbered above `after_number`, by number."""
        ...

    async def slots(self, batch_id: str) -> list[PlayerSlot]:
        """The players' slots in the batch's recorded statement, in order; empty without one."""
        ...

    async def unsettled_batches(self, lane: int, player: str | None, limit: int) -> list[BatchSummary]:
        """Up to `limit` batches of the lane with bets (of `player`) still claimed, by number."""
        ...

    async def players_waiting(self, lane: int, before_number: int, players: Sequence[str]) -> list[str]:
        """Those of `players` with claimed bets in a batch of the lane numbered below `before_number` that is not Confirmed."""
        ...

    async def record_reconciliation(self, report: ReconciliationReport) -> None: ...

    async def latest_reconciliations(self, limit: int, lane: int) -> list[ReconciliationReport]:
        """Up to `limit` of a lane's reports, whole, newest first."""
        ...
