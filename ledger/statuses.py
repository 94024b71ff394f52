"""What a node's word on a transaction proves, and what not. Everything that waits for transactions judges them by this alone."""

from ledger.rpc import ConfirmedAt, EpochInfo, SignatureStatus


def has_landed(status: SignatureStatus | None, commitment: ConfirmedAt) -> bool:
    """Whether a node says that a transaction has succeeded, as seen at `commitment`."""
    return status is not None and status.err is None and status.confirmation_status in (commitment, "finalized")


def has_failed(status: SignatureStatus | None) -> bool:
    """Whether a transaction has failed for good. One that has failed in a fork may still succeed in another."""
    return status is not None and status.err is not None and status.confirmation_status == "finalized"


def is_expired(
    status: SignatureStatus | None, status_slot: int, last_valid_block_height: int, finalized: EpochInfo
) -> bool:
    """Whether a signed transaction provably can never land.

    `finalized` must have been read before the status. Unknown alone proves nothing: the node may lag behind the chain that
    `finalized` tells of (hence the slots), or the blockhash may still be good in a fork (hence the finalized height).
    """
    return (
        status is None and finalized.block_height > last_valid_block_height and status_slot >= finalized.absolute_slot
    )
