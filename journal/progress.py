"""Writes a batch's life after its claim: transitions, refused bets, numbers, statements, attempts and the landing.

Every write locks its batch first and looks before it writes, so that doing it twice, or at once from two workers, leaves what
doing it once leaves.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import RowMapping, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from journal.rows import BETS_OF_BATCH, LIVE, attempt_of, bet_of, field_hex
from journal.tables import attempts, batch_slots, batches, bets, transitions
from journal.writing import free_number, lock_batch, lock_lane, take_number
from settlement.batches import BetStatus, Landing, Proof, RefusedBet, SignedAttempt, Statement
from settlement.bets import Bet
from settlement.errors import BatchUnknown, IllegalTransition, JournalConflict
from settlement.lifecycle import LEGAL_TRANSITIONS, BatchStatus, Transition, check_transition
from settlement.netting import house_delta, net_by_player

MAX_TRANSITIONS_PER_BATCH: Final = 10_000
"""A batch that has changed so often needs a person: of further transitions, only Confirmed gets a row; the others change its status."""
MAX_ATTEMPTS_PER_BATCH: Final = 10_000
"""A batch that was signed so often needs a person: further attempts are refused."""

_NO_STATEMENT: Final = dict.fromkeys(
    ("circuit_id", "bets_root", "bet_count", "player_count", "house_delta", "proof_milliseconds")
)

_CHANGE_BATCH: Final = batches.update().where(batches.c.batch_id == bindparam("changed"))
"""Sets the columns that are named among its parameters, beside `changed`, the batch's id."""
_LAST_TRANSITION: Final = (
    select(transitions.c.sequence, transitions.c.status)
    .where(transitions.c.batch_id == bindparam("batch_id"))
    .order_by(transitions.c.sequence.desc())
    .limit(1)
)
_LIVE_BETS: Final = BETS_OF_BATCH.where(LIVE)
_SETTLE_BETS: Final = bets.update().where(bets.c.batch_id == bindparam("settled"), bets.c.status == BetStatus.CLAIMED)


async def record_transition(connection: AsyncConnection, batch_id: str, transition: Transition) -> None:
    """See `Journal.record_transition`."""
    batch = await lock_batch(connection, batch_id)
    last_sequence, _ = await _last(connection, batch_id)
    if await _is_recorded(connection, batch_id, transition, last_sequence):
        return
    if transition.status == BatchStatus.CONFIRMED:
        raise IllegalTransition(f"batch {batch_id} becomes Confirmed only together with its landing")
    if transition.sequence >= MAX_TRANSITIONS_PER_BATCH and transition.status not in LEGAL_TRANSITIONS[batch["status"]]:
        # Without a row nothing else tells a repeat, so what cannot follow is taken for one.
        return
    await _append(connection, batch, last_sequence, transition)


async def make_pending(
    connection: AsyncConnection, batch: RowMapping, transition: Transition
) -> tuple[BatchStatus, int]:
    """Puts a locked batch back to Pending under its next sequence, unless it is Pending or Confirmed; answers where it is now."""
    status = BatchStatus(batch["status"])
    sequence, _ = await _last(connection, batch["batch_id"])
    if status in (BatchStatus.PENDING, BatchStatus.CONFIRMED):
        return status, sequence
    await _append(connection, batch, sequence, transition.model_copy(update={"sequence": sequence + 1}))
    return BatchStatus.PENDING, (await _last(connection, batch["batch_id"]))[0]


async def eject(
    connection: AsyncConnection,
    batch_id: str,
    refused: Sequence[RefusedBet],
    as_of_sequence: int,
    judged_attempts: int,
) -> None:
    """See `Journal.eject`. A statement that still counted an ejected bet no longer counts.

    Attempts are never removed, so that as many are the same; one that comes later is refused for its statement's sake.
    """
    batch = await lock_batch(connection, batch_id)
    await _require_latest(connection, batch, as_of_sequence)
    signed = await connection.scalar(select(func.count()).where(attempts.c.batch_id == batch_id))
    if signed != judged_attempts:
        raise JournalConflict(
            f"batch {batch_id} was signed {signed} times, and {judged_attempts} attempts were judged before its bets were to be ejected"
        )
    await reject(connection, batch_id, refused)


async def reject(connection: AsyncConnection, batch_id: str, refused: Sequence[RefusedBet]) -> None:
    """Marks bets of a locked batch as rejected, all or none."""
    rows = await connection.execute(select(bets.c.bet_id, bets.c.status).where(bets.c.batch_id == batch_id))
    statuses = {row["bet_id"]: BetStatus(row["status"]) for row in rows.mappings()}
    ejected = False
    for bet in refused:
        status = statuses.get(bet.bet_id)
        if status is None:
            raise JournalConflict(f"batch {batch_id} has no bet {bet.bet_id} to eject")
        if status == BetStatus.SETTLED:
            raise JournalConflict(f"bet {bet.bet_id} of batch {batch_id} is settled and cannot be ejected")
        if status == BetStatus.REJECTED:
            continue
        await connection.execute(
            bets.update()
            .where(bets.c.bet_id == bet.bet_id)
            .values(status=BetStatus.REJECTED, reason=bet.reason, detail=bet.detail, decided_at=datetime.now(UTC))
        )
        statuses[bet.bet_id] = BetStatus.REJECTED
        ejected = True
    if ejected:
        await _forget_statement(connection, batch_id)


async def renumber(connection: AsyncConnection, batch_id: str, taken: int, above: int, as_of_sequence: int) -> int:
    """See `Journal.renumber`. A statement that named the old number no longer counts."""
    lane: int | None = await connection.scalar(select(batches.c.lane).where(batches.c.batch_id == batch_id))
    last_number = 0 if lane is None else await lock_lane(connection, lane)
    batch = await lock_batch(connection, batch_id)
    if batch["number"] != taken:
        return int(batch["number"])
    if batch["status"] == BatchStatus.CONFIRMED:
        raise JournalConflict(f"batch {batch_id} is Confirmed as number {taken} and cannot get another")
    await _require_latest(connection, batch, as_of_sequence)
    if above <= last_number:
        number = await take_number(connection, batch["lane"], last_number)
    else:
        # Not noted: the chain may hold batches that the journal has lost, and new claims must still find that out.
        number = await free_number(connection, batch["lane"], above)
    await set_number(connection, batch_id, number)
    return number


async def set_number(connection: AsyncConnection, batch_id: str, number: int) -> None:
    """Gives a locked batch a number that is free on its locked lane. A statement that named the old one no longer counts."""
    await connection.execute(_CHANGE_BATCH, {"changed": batch_id, "number": number})
    await _forget_statement(connection, batch_id)


async def record_statement(connection: AsyncConnection, batch_id: str, statement: Statement, proof: Proof) -> None:
    """See `Journal.record_statement`. Raises `JournalConflict` if the statement is not about the batch's bets as they stand."""
    batch = await lock_batch(connection, batch_id)
    root = field_hex(statement.bets_root)
    if batch["status"] == BatchStatus.CONFIRMED and batch["bets_root"] == root:
        return
    _check_statement(batch, statement, proof, await _bets(connection, batch_id))
    if batch["bets_root"] is not None:
        await _forget_slots(connection, batch_id)
    await connection.execute(
        batch_slots.insert(),
        [
            {"batch_id": batch_id, "position": position, **slot.model_dump()}
            for position, slot in enumerate(statement.slots)
        ],
    )
    await connection.execute(
        _CHANGE_BATCH,
        {
            "changed": batch_id,
            "circuit_id": proof.circuit_id,
            "bets_root": root,
            "bet_count": len(statement.entries),
            "player_count": len(statement.slots),
            "house_delta": statement.house_delta,
            "proof_milliseconds": proof.milliseconds,
        },
    )


async def record_attempt(connection: AsyncConnection, batch_id: str, attempt: SignedAttempt) -> SignedAttempt:
    """See `Journal.record_attempt`. Raises `JournalConflict` if it is signed for a number that the batch does not have."""
    batch = await lock_batch(connection, batch_id)
    rows = await connection.execute(
        select(attempts).where(attempts.c.batch_id == batch_id, attempts.c.attempt == attempt.attempt)
    )
    recorded = rows.mappings().one_or_none()
    if recorded is not None:
        return attempt_of(recorded)
    if attempt.number != batch["number"]:
        raise JournalConflict(
            f"attempt {attempt.attempt} is signed for number {attempt.number}, batch {batch_id} has {batch['number']}"
        )
    if batch["bets_root"] is None:
        raise BatchUnknown(
            f"the journal holds no statement of what attempt {attempt.attempt} of batch {batch_id} settles"
        )
    if batch["bets_root"] != field_hex(attempt.bets_root):
        raise JournalConflict(f"attempt {attempt.attempt} of batch {batch_id} is not signed for its recorded statement")
    if attempt.attempt >= MAX_ATTEMPTS_PER_BATCH:
        raise JournalConflict(
            f"batch {batch_id} was signed {MAX_ATTEMPTS_PER_BATCH} times: find out why it cannot settle"
        )
    row = {**attempt.model_dump(), "bets_root": field_hex(attempt.bets_root)}
    await connection.execute(attempts.insert(), {"batch_id": batch_id, **row})
    return attempt


async def restore_attempts(connection: AsyncConnection, batch_id: str, lost: Sequence[SignedAttempt]) -> None:
    """See `Journal.restore_attempts`. They may be for another number or root than the batch's now: they were signed for what it was."""
    await lock_batch(connection, batch_id)
    rows = await connection.execute(
        select(attempts.c.attempt, attempts.c.signature).where(attempts.c.batch_id == batch_id)
    )
    kept = {row["signature"]: row["attempt"] for row in rows.mappings()}
    for attempt in lost:
        if attempt.signature in kept:
            continue
        given = set(kept.values())
        number = attempt.attempt if attempt.attempt not in given else max(given) + 1
        row = {**attempt.model_dump(), "attempt": number, "bets_root": field_hex(attempt.bets_root)}
        await connection.execute(attempts.insert(), {"batch_id": batch_id, **row})
        kept[attempt.signature] = number


async def confirm(connection: AsyncConnection, batch_id: str, landing: Landing, transition: Transition) -> None:
    """See `Journal.confirm`. Raises `JournalConflict` if the bets' sum and the proven house delta are not each other's opposite."""
    batch = await lock_batch(connection, batch_id)
    if batch["signature"] == landing.signature:
        return
    if batch["signature"] is not None:
        raise JournalConflict(
            f"batch {batch_id} landed with signature {batch['signature']}, now it is said to have landed with {landing.signature}"
        )
    if transition.status != BatchStatus.CONFIRMED:
        raise IllegalTransition(f"batch {batch_id} landed, so it becomes Confirmed, not {transition.status}")
    if batch["bets_root"] is None:
        raise BatchUnknown(f"batch {batch_id} cannot be confirmed: the journal holds no statement of what was proven")
    delta_of_bets = house_delta(net_by_player(await _bets(connection, batch_id)).values())
    if delta_of_bets != batch["house_delta"]:
        raise JournalConflict(
            f"batch {batch_id} does not conserve money: its bets give the house {delta_of_bets} lamports, "
            f"its statement {batch['house_delta']}"
        )
    last_sequence, _ = await _last(connection, batch_id)
    if await _is_recorded(connection, batch_id, transition, last_sequence):
        raise JournalConflict(f"batch {batch_id} is Confirmed already, but without a landing")
    await _append(connection, batch, last_sequence, transition, landing)
    await connection.execute(
        _SETTLE_BETS, {"settled": batch_id, "status": BetStatus.SETTLED, "decided_at": transition.at}
    )


async def amend_landing(connection: AsyncConnection, batch_id: str, landing: Landing) -> None:
    """See `Journal.amend_landing`."""
    batch = await lock_batch(connection, batch_id)
    if batch["status"] != BatchStatus.CONFIRMED:
        raise JournalConflict(f"batch {batch_id} is {batch['status']}: only a Confirmed one has a landing to amend")
    await connection.execute(_CHANGE_BATCH, {"changed": batch_id, **landing.model_dump()})


async def _require_latest(connection: AsyncConnection, batch: RowMapping, as_of_sequence: int) -> None:
    """Raises `JournalConflict` if a locked batch has changed since its transition `as_of_sequence`.

    One that has no room for further transitions shows by its status alone that it has: what is decided there is decided while
    it is Pending.
    """
    sequence, status = await _last(connection, batch["batch_id"])
    is_full = sequence + 1 >= MAX_TRANSITIONS_PER_BATCH
    if sequence != as_of_sequence or (is_full and batch["status"] != BatchStatus.PENDING):
        raise JournalConflict(
            f"batch {batch['batch_id']} went on to {batch['status'] if is_full else status} (transition {sequence}) while its bets"
            f" were being looked at (as of transition {as_of_sequence})"
        )


async def _is_recorded(connection: AsyncConnection, batch_id: str, transition: Transition, last_sequence: int) -> bool:
    if transition.sequence > last_sequence:
        return False
    rows = await connection.execute(
        select(transitions.c.status).where(
            transitions.c.batch_id == batch_id, transitions.c.sequence == transition.sequence
        )
    )
    status = rows.scalar_one_or_none()
    if status not in (None, transition.status):
        raise JournalConflict(
            f"transition {transition.sequence} of batch {batch_id} is recorded as {status}, not as {transition.status}"
        )
    return status is not None


async def _append(
    connection: AsyncConnection,
    batch: RowMapping,
    last_sequence: int,
    transition: Transition,
    landing: Landing | None = None,
) -> None:
    """Adds a transition after the last of a locked batch, with a landing if it is the one to Confirmed.

    A gap between them is let be: a journal restored from a backup may have lost some.
    """
    batch_id, status = batch["batch_id"], BatchStatus(batch["status"])
    if transition.sequence < last_sequence:
        raise JournalConflict(
            f"transition {transition.sequence} of batch {batch_id} is missing, but {last_sequence} is there"
        )
    if transition.sequence > last_sequence + 1 and transition.status not in LEGAL_TRANSITIONS[status]:
        raise BatchUnknown(
            f"batch {batch_id} cannot go from {status} (transition {last_sequence}) to {transition.status} (transition"
            f" {transition.sequence}): the journal has lost what was between, as one does that is restored from an older copy"
        )
    check_transition(status, transition.status)
    if transition.sequence < MAX_TRANSITIONS_PER_BATCH or transition.status == BatchStatus.CONFIRMED:
        await connection.execute(transitions.insert(), {"batch_id": batch_id, **transition.model_dump()})
    landed = {} if landing is None else landing.model_dump()
    await connection.execute(_CHANGE_BATCH, {"changed": batch_id, "status": transition.status, **landed})


async def _last(connection: AsyncConnection, batch_id: str) -> tuple[int, str]:
    rows = await connection.execute(_LAST_TRANSITION, {"batch_id": batch_id})
    last = rows.mappings().one()
    return last["sequence"], last["status"]


async def _forget_statement(connection: AsyncConnection, batch_id: str) -> None:
    await _forget_slots(connection, batch_id)
    await connection.execute(_CHANGE_BATCH, {"changed": batch_id, **_NO_STATEMENT})


async def _forget_slots(connection: AsyncConnection, batch_id: str) -> None:
    await connection.execute(batch_slots.delete().where(batch_slots.c.batch_id == batch_id))


async def _bets(connection: AsyncConnection, batch_id: str) -> list[Bet]:
    rows = await connection.execute(_LIVE_BETS, {"batch_id": batch_id})
    return [bet_of(row) for row in rows.mappings()]


def _check_statement(batch: RowMapping, statement: Statement, proof: Proof, standing: Sequence[Bet]) -> None:
    batch_id = batch["batch_id"]
    if batch["status"] == BatchStatus.CONFIRMED:
        raise JournalConflict(f"batch {batch_id} is Confirmed with another statement")
    if proof.public_input != statement.public_input:
        raise JournalConflict(f"the proof for batch {batch_id} is not of its statement")
    if (statement.lane, statement.number) != (batch["lane"], batch["number"]):
        raise JournalConflict(
            f"the statement is about batch {statement.number} of lane {statement.lane}, "
            f"batch {batch_id} is number {batch['number']} of lane {batch['lane']}"
        )
    if len(statement.entries) != len(standing):
        raise JournalConflict(
            f"the statement counts {len(statement.entries)} bets, of batch {batch_id} {len(standing)} stand"
        )
    stated = {slot.player: slot.net for slot in statement.slots}
    nets = net_by_player(standing)
    if stated != nets:
        player = next(player for player in (*nets, *stated) if stated.get(player) != nets.get(player))
        raise JournalConflict(
            f"the statement nets player {player} to {stated.get(player)} lamports, the bets of batch {batch_id} "
            f"to {nets.get(player)}"
        )
