"""The names that clients and operators rely on: workflow ids and task queues."""

from typing import Final

SETTLEMENT_QUEUE: Final = "settlement"
"""Workflows and I/O."""

PROVING_QUEUE: Final = "proving"
"""CPU-bound proofs, scaled by itself."""

BET_WORKFLOW: Final = "Bet"
PLACE_BET: Final = "place_bet"
PLACE_BETS: Final = "place_bets"
PLACE_TRACKED_BET: Final = "place_tracked_bet"
RECONCILIATION_ID: Final = "reconciliation"
FULL_RECONCILIATION_ID: Final = "reconciliation-full"
"""Of those that compare every batch: whoever asks for one must not be given a scheduled one, which leaves batches out."""
CIRCUITS_WORKFLOW: Final = "Circuits"
CIRCUITS_ID: Final = "circuits"


def batcher_id(lane: int) -> str:
    """The workflow id of a lane's Batcher."""
    return f"batcher-{lane}"


def bet_workflow_id(bet_id: str) -> str:
    """The workflow id of a tracked bet."""
    return f"bet-{bet_id}"
