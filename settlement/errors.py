"""Everything that can go wrong, as one small hierarchy. Activities map it to application errors by type, never by text."""

from typing import ClassVar


class CroupierError(Exception):
    """Base of all errors of the domain. `retryable`: the cause may pass by itself, so the same call may succeed later."""

    retryable: ClassVar[bool] = False


class BetRejected(CroupierError):
    """A bet that is not taken in, and why. `reason`: one of `settlement.bets.RejectionReason`."""

    def __init__(self, reason: str, detail: str, bet_id: str | None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.bet_id = bet_id


class InvalidBet(BetRejected):
    """A bet that breaks the rules of its format."""


class LaneSaturated(CroupierError):
    """The lane's queue is full: send again later."""

    retryable = True


class LaneUnavailable(CroupierError):
    """The lane's Batcher does not take bets, though it runs: send again later."""

    retryable = True


class PredecessorUnread(CroupierError):
    """The run of a lane's Batcher that ended holds acknowledged bets, it may be, and cannot be read. A person must look."""


class TemporalRefused(CroupierError):
    """Temporal answers, and does not do what is asked: it is not permitted, or not a thing that this server can do."""


class LaneSilent(CroupierError):
    """The lane's Batcher does not say how it stands: most likely no worker runs."""

    retryable = True


class NotParked(CroupierError):
    """What was to be retried is no batch, or none that is parked as Failed."""


class IllegalTransition(CroupierError):
    """A batch was asked to change to a status that its lifecycle does not allow from where it is."""


class ProofRejected(CroupierError):
    """A proof did not verify, or no proof can exist for the statement. Never leaves the prover as a result."""


class ProvingKeyMissing(CroupierError):
    """The prover holds no usable key for a shape."""


class KeyRefused(CroupierError):
    """A circuit key that must not be used: not the one that was pinned or registered, for another circuit, or forgeable."""


class CircuitsUnknown(CroupierError):
    """Nobody says which circuits are registered on chain, so no key may be used."""


class LedgerUnavailable(CroupierError):
    """No usable answer from the RPC node. The outcome of what was asked is unknown."""

    retryable = True


class LedgerMisconfigured(CroupierError):
    """The ledger answers, but something on it that an operator must provide is missing: program, circuit, house, authority, fees.

    Mended from outside, so a batch parks on it rather than failing for good.
    """


class SettlementRefused(CroupierError):
    """The program refuses the settlement as it stands; nothing moved."""


class VaultUncovered(SettlementRefused):
    """A player's vault cannot cover his net loss. `position` is the slot of the vault in the batch."""

    def __init__(self, position: int, detail: str) -> None:
        super().__init__(detail)
        self.position = position


class HouseUncovered(SettlementRefused):
    """The house account cannot cover the players' net win: the operator must top it up."""


class BatchNumberTaken(SettlementRefused):
    """The chain holds a record of this lane and number with another bets root: the batch must be renumbered."""


class AlreadySettled(CroupierError):
    """The chain already holds this very batch (its number with its bets root): nothing is left to send, only to confirm."""


class JournalUnavailable(CroupierError):
    """The database did not answer, is locked, read-only or full."""

    retryable = True


class JournalMisconfigured(CroupierError):
    """The journal is not there, not readable as a journal, or not of this program's schema version. An operator must mend it."""


class JournalConflict(CroupierError):
    """What is to be written contradicts what the journal holds. Never overwritten; a person must look."""


class BatchUnknown(JournalConflict):
    """The journal does not hold a batch, or an older state of it than is written about: it was restored from an older copy.

    The batch's workflow knows what is missing, and claims it again under the number that it had.
    """


class NumberInUse(JournalConflict):
    """A batch is claimed again under the number that it had, but the journal has given that to another batch since.

    Passes once it is settled on chain whose number it is: the other batch then gets another, or this one may.
    """


class JournalBehind(CroupierError):
    """The chain holds batches of a lane that the journal does not: it was restored from an older copy, or is another lane's.

    A new batch claimed now might hold bets that are settled already, so none is, until the journal has them again.
    `complete_up_to`: up to which number it is known to hold them all.
    """

    def __init__(self, detail: str, complete_up_to: int) -> None:
        super().__init__(detail)
        self.complete_up_to = complete_up_to
