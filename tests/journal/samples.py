"""Bets, claims and what follows them, as the journal's tests need them."""

from collections.abc import Sequence
from datetime import UTC, datetime

import base58
from sqlalchemy import text

from journal.database import Database
from settlement.batches import (
    Claim,
    ClaimedBatch,
    Landing,
    Proof,
    RefusedBet,
    SignedAttempt,
    Statement,
    batch_id,
    statement_for,
)
from settlement.bets import Bet, Rejection, RejectionReason
from settlement.lifecycle import BatchStatus, Transition

LANE = 3
NOON = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
PLAYERS = [base58.b58encode(bytes([number]) * 32).decode() for number in range(1, 9)]
VAULTS = {player: index for index, player in enumerate(PLAYERS, start=1)}


def bet(bet_id: str, player: int = 0, stake: int = 100, *, won: bool = False) -> Bet:
    return Bet(bet_id=bet_id, player=PLAYERS[player], stake=stake, guess="heads", outcome="heads" if won else "tails")


def some_bets(count: int, prefix: str = "bet") -> list[Bet]:
    """Losses of 100, 101, … lamports by all players in turn."""
    return [bet(f"{prefix}-{n}", player=n % len(PLAYERS), stake=100 + n) for n in range(count)]


def step(sequence: int, status: BatchStatus, detail: str = "") -> Transition:
    return Transition(sequence=sequence, status=status, at=NOON, detail=detail)


def claim(bets: Sequence[Bet], lane: int = LANE) -> Claim:
    return Claim(
        batch_id=batch_id(lane, bets),
        lane=lane,
        bets=tuple(bets),
        transition=step(0, BatchStatus.PENDING),
        highest_on_chain=0,
    )


def refusal(bet: Bet, detail: str = "not covered") -> RefusedBet:
    return RefusedBet(bet_id=bet.bet_id, reason=RejectionReason.UNCOVERED, detail=detail)


def statement(claimed: ClaimedBatch) -> Statement:
    return statement_for(claimed.lane, claimed.number, claimed.bets, VAULTS)


def proof(statement: Statement, milliseconds: int = 1_234) -> Proof:
    return Proof(
        circuit_id=statement.shape.circuit_id,
        public_input=statement.public_input,
        proof="00" * 256,
        milliseconds=milliseconds,
    )


def attempt(claimed: ClaimedBatch, number: int = 0, signature: str | None = None) -> SignedAttempt:
    """The `number`-th attempt; the journal keeps it only after the statement of the same bets."""
    return SignedAttempt(
        attempt=number,
        number=claimed.number,
        bets_root=statement(claimed).bets_root,
        signature=signature or f"signature-{claimed.batch_id}-{number}",
        raw="AQID",
        last_valid_block_height=2**40 + number,
    )


def landing(claimed: ClaimedBatch, signature: str | None = None) -> Landing:
    return Landing(
        signature=signature or f"signature-{claimed.batch_id}-0", slot=2**40, compute_units=150_000, fee_lamports=5_000
    )


def rejection(rejection_id: str, lane: int = LANE, at: datetime = NOON, detail: str = "no lane") -> Rejection:
    return Rejection(
        rejection_id=rejection_id,
        lane=lane,
        bet_id=None,
        reason=RejectionReason.MALFORMED,
        detail=detail,
        payload="{}",
        at=at,
    )


async def run(url: str, *statements: str) -> None:
    """Runs SQL behind the journal's back, in one transaction."""
    database = Database(url)
    try:
        async with database.write() as connection:
            for statement in statements:
                await connection.execute(text(statement))
    finally:
        await database.close()
