"""Gives bets to batches and numbers to batches: each bet id to one batch for good, each number of a lane to one batch."""

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import RowMapping, select
from sqlalchemy.ext.asyncio import AsyncConnection

from journal.progress import make_pending, reject, set_number
from journal.rows import BETS_OF_BATCH, bet_of, bet_row, place_id
from journal.tables import batches, bets, rejections, transitions
from journal.writing import insert_new, lock_batch_if_known, lock_lane, require_free, take_number
from settlement.batches import BetStatus, Claim, ClaimedBatch, DuplicateBet, RefusedBet
from settlement.bets import Bet, RejectionReason, excerpt
from settlement.errors import BatchUnknown, IllegalTransition, JournalBehind, JournalConflict, JournalUnavailable
from settlement.lifecycle import BatchStatus, Transition
from settlement.limits import MAX_BATCH_STAKES_LAMPORTS

MAX_BETS_PER_CLAIM: Final = 1_000
"""A larger claim is refused whole. Far above any circuit's shape; it bounds the reads of a batch's bets."""


async def claim(connection: AsyncConnection, asked: Claim) -> ClaimedBatch:
    """See `Journal.claim`. A bet id belongs to the batch, and within it to the place, that first claims it.

    Doing it again changes nothing: a batch that is known is put back to Pending, if it is not, and answered as it stands.
    """
    _check_bounds(asked)
    last_number = await lock_lane(connection, asked.lane)
    # Locked: from here on no bet is ejected from under the answer.
    known = await _known(connection, asked.batch_id, asked.lane)
    if known is not None:
        status, sequence = await make_pending(connection, known, asked.transition)
        number = await _caught_up(connection, known, status, asked.number, asked.refused)
        answer, _ = await _answer(connection, asked, number)
        return answer.model_copy(update={"status": status, "sequence": sequence})
    number = await _number_for(connection, asked, last_number)
    await connection.execute(
        batches.insert(),
        {
            "batch_id": asked.batch_id,
            "lane": asked.lane,
            "number": number,
            "status": asked.transition.status,
            "claimed_at": asked.transition.at,
        },
    )
    await connection.execute(transitions.insert(), {"batch_id": asked.batch_id, **asked.transition.model_dump()})
    others = _of_others(asked)
    places: dict[str, tuple[int, Bet]] = {}
    for position, bet in enumerate(asked.bets):
        if bet.bet_id not in others:
            places.setdefault(bet.bet_id, (position, bet))
    # In the order of their ids: two lanes that claim the same bets then wait for each other one way only.
    await insert_new(
        connection,
        bets,
        [bet_row(bet, asked.lane, asked.batch_id, position) for _, (position, bet) in sorted(places.items())],
    )
    await _reject_again(connection, asked.batch_id, asked.refused)
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


async def resume(
    connection: AsyncConnection,
    batch_id: str,
    lane: int,
    transition: Transition,
    number: int | None,
    refused: Sequence[RefusedBet],
) -> ClaimedBatch:
    """See `Journal.resume`."""
    _check_pending(batch_id, transition)
    await lock_lane(connection, lane)
    known = await _known(connection, batch_id, lane)
    if known is None:
        raise BatchUnknown(f"the journal holds no batch {batch_id}, so it knows of no bets to settle in it")
    status, sequence = await make_pending(connection, known, transition)
    number = await _caught_up(connection, known, status, number, refused)
    rows = await connection.execute(BETS_OF_BATCH, {"batch_id": batch_id})
    live: list[Bet] = []
    left_out: list[RefusedBet] = []
    for row in rows.mappings():
        if row["status"] == BetStatus.REJECTED:
            left_out.append(_refused(row))
        else:
            live.append(bet_of(row))
    return ClaimedBatch(
        batch_id=batch_id,
        lane=lane,
        number=number,
        status=status,
        sequence=sequence,
        bets=tuple(live),
        refused=tuple(left_out),
        duplicates=(),
    )


def _check_bounds(asked: Claim) -> None:
    _check_pending(asked.batch_id, asked.transition)
    if len(asked.bets) > MAX_BETS_PER_CLAIM:
        raise JournalConflict(f"batch {asked.batch_id} claims {len(asked.bets)} bets, at most {MAX_BETS_PER_CLAIM} fit")
    if sum(bet.stake for bet in asked.bets) > MAX_BATCH_STAKES_LAMPORTS:
        raise JournalConflict(f"batch {asked.batch_id} claims stakes of more than {MAX_BATCH_STAKES_LAMPORTS} lamports")


def _check_pending(batch_id: str, transition: Transition) -> None:
    if transition.status != BatchStatus.PENDING:
        raise IllegalTransition(f"batch {batch_id} is claimed as Pending, not as {transition.status}")


async def _known(connection: AsyncConnection, batch_id: str, lane: int) -> RowMapping | None:
    batch = await lock_batch_if_known(connection, batch_id)
    if batch is not None and batch["lane"] != lane:
        raise JournalConflict(f"batch {batch_id} is of lane {batch['lane']}, not of lane {lane}")
    return batch


async def _number_for(connection: AsyncConnection, asked: Claim, last_number: int) -> int:
    """The number of a batch that the journal does not hold: the one that it had, or a new one."""
    if asked.number is not None:
        await require_free(connection, asked.batch_id, asked.lane, asked.number)
        return asked.number
    if asked.highest_on_chain is None:
        raise JournalUnavailable(f"the journal has just lost batch {asked.batch_id}: again")
    complete = max(last_number, asked.complete_up_to)
    if asked.highest_on_chain > complete:
        raise JournalBehind(
            f"the chain has settled lane {asked.lane} up to number {asked.highest_on_chain}, the journal has given numbers up to"
            f" {complete} only",
            complete,
        )
    return await take_number(connection, asked.lane, complete)


async def _caught_up(
    connection: AsyncConnection,
    batch: RowMapping,
    status: BatchStatus,
    number: int | None,
    refused: Sequence[RefusedBet],
) -> int:
    """Brings a locked batch's number and refusals up to what its workflow knows; a number that is given anew is always higher."""
    known: int = batch["number"]
    if status == BatchStatus.CONFIRMED:
        return known
    await _reject_again(connection, batch["batch_id"], refused)
    if number is None or number <= known:
        return known
    await require_free(connection, batch["batch_id"], batch["lane"], number)
    await set_number(connection, batch["batch_id"], number)
    return number


async def _reject_again(connection: AsyncConnection, batch_id: str, refused: Sequence[RefusedBet]) -> None:
    """Rejects what was rejected of the batch before the journal lost that. What another batch has by now is its own to decide."""
    lost = [bet for bet in refused if bet.reason is not RejectionReason.CONFLICT]
    if not lost:
        return
    rows = await connection.execute(select(bets.c.bet_id).where(bets.c.batch_id == batch_id))
    held = set(rows.scalars())
    await reject(connection, batch_id, [bet for bet in lost if bet.bet_id in held])


def _of_others(asked: Claim) -> Mapping[str, DuplicateBet | RefusedBet]:
    """What was another batch's when the batch was claimed first. That batch may be lost as well, so it is left for it.

    A bet that stands twice in this very batch is its own.
    """
    ids = [bet.bet_id for bet in asked.bets]
    duplicates = [bet for bet in asked.duplicates if bet.batch_id != asked.batch_id]
    conflicts = [bet for bet in asked.refused if bet.reason is RejectionReason.CONFLICT and ids.count(bet.bet_id) == 1]
    return {bet.bet_id: bet for bet in (*duplicates, *conflicts)}


async def _answer(connection: AsyncConnection, asked: Claim, number: int) -> tuple[ClaimedBatch, dict[int, RefusedBet]]:
    """What the journal says now of each bet asked for, and the conflicts among them by position.

    A bet's row never leaves its batch and never changes its content, so conflicts and duplicates come out the same every time.
    """
    rows = await connection.execute(BETS_OF_BATCH, {"batch_id": asked.batch_id})
    owners: dict[str, RowMapping] = {row["bet_id"]: row for row in rows.mappings()}
    held = len(owners)
    if elsewhere := [bet.bet_id for bet in asked.bets if bet.bet_id not in owners]:
        rows = await connection.execute(select(bets).where(bets.c.bet_id.in_(elsewhere)))
        owners |= {row["bet_id"]: row for row in rows.mappings()}
    others = _of_others(asked)
    live: list[Bet] = []
    refused: list[RefusedBet] = []
    duplicates: list[DuplicateBet] = []
    conflicts: dict[int, RefusedBet] = {}
    for position, bet in enumerate(asked.bets):
        owner = owners.get(bet.bet_id)
        if owner is None:
            match others.get(bet.bet_id):
                case DuplicateBet() as duplicate:
                    duplicates.append(duplicate)
                case RefusedBet() as conflict:
                    conflicts[position] = conflict
                case None:
                    raise JournalConflict(f"batch {asked.batch_id} was claimed before, without bet {bet.bet_id}")
            continue
        same = owner["digest"] == bet.digest.hex()
        if (owner["batch_id"], owner["position"]) == (asked.batch_id, position):
            if not same:
                raise JournalConflict(f"batch {asked.batch_id} was claimed before, with another bet {bet.bet_id}")
            if owner["status"] == BetStatus.REJECTED:
                refused.append(_refused(owner))
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


def _refused(row: RowMapping) -> RefusedBet:
    return RefusedBet(bet_id=row["bet_id"], reason=RejectionReason(row["reason"]), detail=row["detail"])
