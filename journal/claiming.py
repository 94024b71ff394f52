"""Gives bets to batches and numbers to batches: each bet id to one batch for good, each number of a lane to one batch."""

from typing import Final

from sqlalchemy import RowMapping, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from journal.progress import make_pending
from journal.rows import bet_of, bet_row, place_id
from journal.tables import batches, bets, rejections, transitions
from journal.writing import give_number, insert_new, lock_lane
from settlement.batches import BetStatus, Claim, ClaimedBatch, DuplicateBet, RefusedBet
from settlement.bets import Bet, RejectionReason, excerpt
from settlement.errors import IllegalTransition, JournalConflict
from settlement.lifecycle import BatchStatus
from settlement.limits import MAX_BATCH_STAKES_LAMPORTS

MAX_BETS_PER_CLAIM: Final = 1_000
"""A larger claim is refused whole. Far above any circuit's shape; it bounds the reads of a batch's bets."""


async def claim(connection: AsyncConnection, asked: Claim) -> ClaimedBatch:
    """See `Journal.claim`. A bet id belongs to the batch, and within it to the place, that first claims it."""
    _check_bounds(asked)
    last_number = await lock_lane(connection, asked.lane)
    known = await _number_of(connection, asked)
    if known is not None:
        # First, since it locks the batch: from here on no bet is ejected from under the answer.
        status, sequence = await make_pending(connection, asked.batch_id, asked.transition)
        answer, _ = await _answer(connection, asked, known)
        return answer.model_copy(update={"status": status, "sequence": sequence})
    number = last_number + 1
    await give_number(connection, asked.lane, number)
    await connection.execute(
        batches.insert().values(
            batch_id=asked.batch_id,
            lane=asked.lane,
            number=number,
            status=asked.transition.status,
            claimed_at=asked.transition.at,
        )
    )
    await connection.execute(transitions.insert().values(batch_id=asked.batch_id, **asked.transition.model_dump()))
    places: dict[str, tuple[int, Bet]] = {}
    for position, bet in enumerate(asked.bets):
        places.setdefault(bet.bet_id, (position, bet))
    # In the order of their ids: two lanes that claim the same bets then wait for each other one way only.
    await insert_new(
        connection,
        bets,
        [bet_row(bet, asked.lane, asked.batch_id, position) for _, (position, bet) in sorted(places.items())],
    )
    answer, conflicts = await _answer(connection, asked, number)
    await insert_new(
        connection,
        rejections,
        [
            {
                "rejection_id": place_id(asked.batch_id, position),
                "lane": asked.lane,
                "bet_id": refused.bet_id,
                "reason": refused.reason,
                "detail": refused.detail,
                "payload": excerpt(asked.bets[position].model_dump_json(exclude_none=True)),
                "at": asked.transition.at,
            }
            for position, refused in conflicts.items()
        ],
    )
    return answer


def _check_bounds(asked: Claim) -> None:
    if asked.transition.status != BatchStatus.PENDING:
        raise IllegalTransition(f"batch {asked.batch_id} is claimed as Pending, not as {asked.transition.status}")
    if len(asked.bets) > MAX_BETS_PER_CLAIM:
        raise JournalConflict(f"batch {asked.batch_id} claims {len(asked.bets)} bets, at most {MAX_BETS_PER_CLAIM} fit")
    if sum(bet.stake for bet in asked.bets) > MAX_BATCH_STAKES_LAMPORTS:
        raise JournalConflict(f"batch {asked.batch_id} claims stakes of more than {MAX_BATCH_STAKES_LAMPORTS} lamports")


async def _number_of(connection: AsyncConnection, asked: Claim) -> int | None:
    rows = await connection.execute(
        select(batches.c.lane, batches.c.number).where(batches.c.batch_id == asked.batch_id)
    )
    batch = rows.mappings().one_or_none()
    if batch is None:
        return None
    if batch["lane"] != asked.lane:
        raise JournalConflict(f"batch {asked.batch_id} is of lane {batch['lane']}, not of lane {asked.lane}")
    return int(batch["number"])


async def _answer(connection: AsyncConnection, asked: Claim, number: int) -> tuple[ClaimedBatch, dict[int, RefusedBet]]:
    """What the journal says now of each bet asked for, and the conflicts among them by position.

    A bet's row never leaves its batch and never changes its content, so conflicts and duplicates come out the same every time.
    """
    rows = await connection.execute(
        select(bets).where(
            or_(bets.c.batch_id == asked.batch_id, bets.c.bet_id.in_([bet.bet_id for bet in asked.bets]))
        )
    )
    owners: dict[str, RowMapping] = {row["bet_id"]: row for row in rows.mappings()}
    live: list[Bet] = []
    refused: list[RefusedBet] = []
    duplicates: list[DuplicateBet] = []
    conflicts: dict[int, RefusedBet] = {}
    for position, bet in enumerate(asked.bets):
        owner = owners.get(bet.bet_id)
        if owner is None:
            raise JournalConflict(f"batch {asked.batch_id} was claimed before, without bet {bet.bet_id}")
        same = owner["digest"] == bet.digest.hex()
        if (owner["batch_id"], owner["position"]) == (asked.batch_id, position):
            if not same:
                raise JournalConflict(f"batch {asked.batch_id} was claimed before, with another bet {bet.bet_id}")
            if owner["status"] == BetStatus.REJECTED:
                refused.append(
                    RefusedBet(bet_id=bet.bet_id, reason=RejectionReason(owner["reason"]), detail=owner["detail"])
                )
            else:
                live.append(bet_of(owner))
        elif same:
            duplicates.append(DuplicateBet(bet_id=bet.bet_id, batch_id=owner["batch_id"]))
        else:
            conflicts[position] = RefusedBet(
                bet_id=bet.bet_id,
                reason=RejectionReason.CONFLICT,
                detail=f"another bet with this id is in batch {owner['batch_id']}",
            )
    held = sum(owner["batch_id"] == asked.batch_id for owner in owners.values())
    if held != len(asked.bets) - len(duplicates) - len(conflicts):
        raise JournalConflict(f"batch {asked.batch_id} was claimed before, with more bets")
    answer = ClaimedBatch(
        batch_id=asked.batch_id,
        lane=asked.lane,
        number=number,
        status=asked.transition.status,
        sequence=asked.transition.sequence,
        bets=tuple(live),
        refused=(*refused, *conflicts.values()),
        duplicates=tuple(duplicates),
    )
    return answer, conflicts
