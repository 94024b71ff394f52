"""The protocols that adapters fulfil. Activities depend on these; only the composition root knows who stands behind them.

Every method may raise its port's retryable error (`LedgerUnavailable`, `JournalUnavailable`) or say that an operator must mend
something (`LedgerMisconfigured`, `JournalMisconfigured`); others are named.
"""

from collections.abc import Sequence
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
    Proof,
    RefusedBet,
    SignedAttempt,
    Statement,
    Vault,
    Verdict,
)
from settlement.bets import Bet, Rejection
from settlement.circuits import RegisteredCircuits
from settlement.intake import BetOutcome
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

    async def vaults(self, lane: int, players: Sequence[str]) -> dict[str, Vault]:
        """The vaults that exist among `players`' on this lane."""
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

    async def judge(self, statement: Statement, attempts: Sequence[SignedAttempt]) -> Verdict:
        """What the chain says of all attempts ever signed for one batch.

        Raises `BatchNumberTaken`, `VaultUncovered`, `HouseUncovered` or `SettlementRefused` only if no attempt can land any more.
        """
        ...


class Intake(Protocol):
    """The way to a lane's Batcher."""

    async def place(self, bet: Bet, *, tracked: bool) -> BetOutcome:
        """Puts one bet into its lane's queue, starting the Batcher if need be. Raises `LaneSaturated`, `LaneUnavailable`."""
        ...


class Journal(Protocol):
    """The record of every bet and batch. All writes are idempotent: doing one twice leaves what doing it once left.

    Any method may raise `JournalMisconfigured`; a write about a batch that contradicts what is recorded raises `JournalConflict`.
    """

    async def claim(self, claim: Claim) -> ClaimedBatch:
        """Claims bets for a batch and numbers it; asked again for the same batch, answers the same from what it holds."""
        ...

    async def record_transition(self, batch_id: str, transition: Transition) -> None:
        """Raises `JournalConflict` if another transition has that sequence."""
        ...

    async def eject(self, batch_id: str, refused: Sequence[RefusedBet], as_of_sequence: int) -> None:
        """Marks bets of a batch as rejected. Raises `JournalConflict` if its latest transition is not `as_of_sequence`: whoever

        asks has decided on what is not so any more.
        """
        ...

    async def renumber(self, batch_id: str, taken: int, above: int) -> int:
        """Gives the batch a new number above `above` if it still has the number `taken`; answers its number."""
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
        """Every attempt ever signed for the batch, oldest first."""
        ...

    async def confirm(self, batch_id: str, landing: Landing, transition: Transition) -> None:
        """Marks the batch Confirmed and its remaining bets settled. Raises `JournalConflict` on another landing."""
        ...

    async def record_rejections(self, rejections: Sequence[Rejection]) -> None:
        """Keeps what never became a bet of a batch; `rejection_id` makes it idempotent."""
        ...

    async def bet(self, bet_id: str) -> BetRecord | None: ...

    async def batch(self, batch_id: str) -> BatchSummary | None: ...

    async def bets_of(self, batch_id: str) -> list[BetRecord]:
        """In the order of their positions, rejected ones included."""
        ...

    async def batches(self, lane: int, after_number: int, limit: int) -> list[BatchSummary]:
        """Up to `limit` of a lane's batches numbered above `after_number`, by number."""
        ...

    async def players_waiting(self, lane: int, before_number: int, players: Sequence[str]) -> list[str]:
        """Those of `players` with claimed bets in a batch of the lane numbered below `before_number` that is not Confirmed."""
        ...

    async def record_reconciliation(self, report: ReconciliationReport) -> None: ...
