"""Between rows and the domain's models. The only place that knows both."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import RowMapping, bindparam, select

from journal.tables import bets
from settlement.batches import BatchSummary, BetRecord, BetStatus, Landing, PlayerSlot, SignedAttempt
from settlement.bets import Bet, Rejection, RejectionReason, excerpt
from settlement.commitment import FIELD_BYTES
from settlement.lifecycle import BatchStatus, Transition
from settlement.reconciliation import Finding, FindingKind, ReconciliationReport

LIVE: Final = bets.c.status != BetStatus.REJECTED
BETS_OF_BATCH: Final = select(bets).where(bets.c.batch_id == bindparam("batch_id")).order_by(bets.c.position)


def field_hex(element: int) -> str:
    """64 hex digits, big-endian."""
    return element.to_bytes(FIELD_BYTES, "big").hex()


def bet_fields(bet: Bet) -> dict[str, Any]:
    """What every row about a bet says of it."""
    return {
        "bet_id": bet.bet_id,
        "player": bet.player,
        "stake": bet.stake,
        "guess": bet.guess,
        "outcome": bet.outcome,
        "placed_at": bet.placed_at and bet.placed_at.isoformat(),
        "digest": bet.digest.hex(),
    }


def bet_row(bet: Bet, lane: int, batch_id: str, position: int) -> dict[str, Any]:
    """A newly claimed bet."""
    return {
        **bet_fields(bet),
        "lane": lane,
        "batch_id": batch_id,
        "position": position,
        "status": BetStatus.CLAIMED,
        "detail": "",
    }


def bet_of(row: RowMapping) -> Bet:
    return Bet(
        bet_id=row["bet_id"],
        player=row["player"],
        stake=row["stake"],
        guess=row["guess"],
        outcome=row["outcome"],
        placed_at=row["placed_at"] and datetime.fromisoformat(row["placed_at"]),
    )


def bet_record_of(row: RowMapping) -> BetRecord:
    return BetRecord(
        bet=bet_of(row),
        lane=row["lane"],
        batch_id=row["batch_id"],
        position=row["position"],
        status=BetStatus(row["status"]),
        reason=row["reason"] and RejectionReason(row["reason"]),
        detail=row["detail"],
    )


def place_id(batch_id: str, position: int) -> str:
    """Names one place of a batch as cut; the `rejection_id` of what stood there, if it is refused."""
    return f"{batch_id}/{position}"


def rejected_bet_of(row: RowMapping) -> Rejection:
    """A batch's rejected bet, told like those that never came into a batch."""
    bet = bet_of(row)
    return Rejection(
        rejection_id=place_id(row["batch_id"], row["position"]),
        lane=row["lane"],
        bet_id=bet.bet_id,
        reason=RejectionReason(row["reason"]),
        detail=row["detail"],
        payload=excerpt(bet.model_dump_json(exclude_none=True)),
        at=row["decided_at"],
    )


def rejection_of(row: RowMapping) -> Rejection:
    return Rejection.model_validate(dict(row))


def transition_of(row: RowMapping) -> Transition:
    return Transition(sequence=row["sequence"], status=BatchStatus(row["status"]), at=row["at"], detail=row["detail"])


def attempt_of(row: RowMapping) -> SignedAttempt:
    return SignedAttempt(
        attempt=row["attempt"],
        number=row["number"],
        bets_root=int(row["bets_root"], 16),
        signature=row["signature"],
        raw=row["raw"],
        last_valid_block_height=row["last_valid_block_height"],
    )


def slot_of(row: RowMapping) -> PlayerSlot:
    return PlayerSlot(player=row["player"], vault_index=row["vault_index"], net=row["net"])


def summary_of(row: RowMapping, transitions: Sequence[Transition], live: RowMapping | None) -> BatchSummary:
    """`live`: counts and house delta over the bets that stand, for a batch without a statement; None if none stand."""
    figures = row if row["bets_root"] is not None else live
    return BatchSummary(
        batch_id=row["batch_id"],
        lane=row["lane"],
        number=row["number"],
        status=BatchStatus(row["status"]),
        bet_count=figures["bet_count"] if figures else 0,
        player_count=figures["player_count"] if figures else 0,
        house_delta=int(figures["house_delta"]) if figures else 0,
        transitions=tuple(transitions),
        circuit_id=row["circuit_id"],
        bets_root=row["bets_root"],
        proof_milliseconds=row["proof_milliseconds"],
        landing=None
        if row["signature"] is None
        else Landing(
            signature=row["signature"],
            slot=row["slot"],
            compute_units=row["compute_units"],
            fee_lamports=row["fee_lamports"],
        ),
    )


def report_of(row: RowMapping, findings: Sequence[RowMapping]) -> ReconciliationReport:
    return ReconciliationReport(
        run_id=row["run_id"],
        lane=row["lane"],
        at=row["at"],
        batches_compared=row["batches_compared"],
        players_compared=row["players_compared"],
        open_batches=row["open_batches"],
        batches=row["batches"],
        findings=tuple(
            Finding(
                kind=FindingKind(finding["kind"]),
                subject=finding["subject"],
                journal=finding["journal"],
                chain=finding["chain"],
            )
            for finding in findings
        ),
    )
