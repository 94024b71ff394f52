"""Reads the journal, for the domain and for people. Changes nothing, and never reads more rows than a named limit lets it.

A batch's own bets, transitions and attempts are bounded where they are written: see `claiming` and `progress`.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from pydantic import BaseModel, ConfigDict
from sqlalchemy import ColumnElement, RowMapping, bindparam, case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from journal.rows import (
    BETS_OF_BATCH,
    LIVE,
    attempt_of,
    bet_record_of,
    rejected_bet_of,
    rejection_of,
    report_of,
    slot_of,
    summary_of,
    transition_of,
)
from journal.tables import attempts, batch_slots, batches, bets, findings, reconciliations, rejections, transitions
from settlement.batches import BatchSummary, BetRecord, BetStatus, PlayerSlot, SignedAttempt
from settlement.bets import Rejection, RejectionReason
from settlement.errors import BatchUnknown
from settlement.lifecycle import BatchStatus, Transition
from settlement.reconciliation import ReconciliationReport

MAX_ROWS_PER_READ: Final = 1_000
"""The highest `limit` of a read, and the most players asked about at once; more raises `ValueError`."""

DELTA: Final = case((bets.c.guess == bets.c.outcome, bets.c.stake), else_=-bets.c.stake)
"""What a bet changes in its player's vault, in lamports: `Bet.delta` in SQL."""

_CLAIMED_BETS: Final = (
    select(func.count())
    .select_from(bets)
    .where(bets.c.batch_id == bindparam("batch_id"), bets.c.status == BetStatus.CLAIMED)
)

_ATTEMPTS: Final = (
    select(attempts)
    .select_from(batches.outerjoin(attempts))
    .where(batches.c.batch_id == bindparam("batch_id"))
    .order_by(attempts.c.attempt)
)


class JournalCounts(BaseModel):
    """How much the journal holds. `rejections` counts rejected bets of batches and what never came into one together."""

    model_config = ConfigDict(frozen=True)

    bets: dict[BetStatus, int]
    rejections: dict[RejectionReason, int]


async def bet(connection: AsyncConnection, bet_id: str) -> BetRecord | None:
    rows = await connection.execute(select(bets).where(bets.c.bet_id == bet_id))
    row = rows.mappings().one_or_none()
    return None if row is None else bet_record_of(row)


async def bets_of(connection: AsyncConnection, batch_id: str) -> list[BetRecord]:
    rows = await connection.execute(BETS_OF_BATCH, {"batch_id": batch_id})
    return [bet_record_of(row) for row in rows.mappings()]


async def claimed_bets(connection: AsyncConnection, batch_id: str) -> int:
    return int(await connection.scalar(_CLAIMED_BETS, {"batch_id": batch_id}) or 0)


async def attempts_of(connection: AsyncConnection, batch_id: str) -> list[SignedAttempt]:
    rows = await connection.execute(_ATTEMPTS, {"batch_id": batch_id})
    found = rows.mappings().all()
    if not found:
        raise BatchUnknown(f"the journal holds no batch {batch_id}, so it knows of no attempt")
    # The one row of a batch without attempts names none.
    return [attempt_of(row) for row in found if row["attempt"] is not None]


async def slots_of(connection: AsyncConnection, batch_id: str) -> list[PlayerSlot]:
    rows = await connection.execute(
        select(batch_slots).where(batch_slots.c.batch_id == batch_id).order_by(batch_slots.c.position)
    )
    return [slot_of(row) for row in rows.mappings()]


async def batch(connection: AsyncConnection, batch_id: str) -> BatchSummary | None:
    found = await _summaries(connection, batches.c.batch_id == batch_id, order=(batches.c.batch_id,), limit=1)
    return found[0] if found else None


async def unknown(connection: AsyncConnection, batch_ids: Sequence[str]) -> list[str]:
    _check_limit(len(batch_ids))
    rows = await connection.execute(select(batches.c.batch_id).where(batches.c.batch_id.in_(batch_ids)))
    known = set(rows.scalars())
    return [batch_id for batch_id in batch_ids if batch_id not in known]


async def batches_after(connection: AsyncConnection, lane: int, after_number: int, limit: int) -> list[BatchSummary]:
    where = (batches.c.lane == lane) & (batches.c.number > after_number)
    return await _summaries(connection, where, order=(batches.c.number,), limit=limit)


async def recent_batches(connection: AsyncConnection, limit: int) -> list[BatchSummary]:
    newest = (batches.c.claimed_at.desc(), batches.c.number.desc(), batches.c.batch_id)
    return await _summaries(connection, None, order=newest, limit=limit)


async def players(connection: AsyncConnection, limit: int) -> list[str]:
    _check_limit(limit)
    rows = await connection.execute(select(bets.c.player).distinct().order_by(bets.c.player).limit(limit))
    return list(rows.scalars())


async def players_waiting(
    connection: AsyncConnection, lane: int, before_number: int, players: Sequence[str]
) -> list[str]:
    _check_limit(len(players))
    rows = await connection.execute(
        select(bets.c.player)
        .distinct()
        .join(batches, batches.c.batch_id == bets.c.batch_id)
        .where(
            bets.c.lane == lane,
            bets.c.status == BetStatus.CLAIMED,
            bets.c.player.in_(players),
            batches.c.number < before_number,
            batches.c.status != BatchStatus.CONFIRMED,
        )
    )
    waiting = set(rows.scalars())
    return [player for player in players if player in waiting]


async def unsettled_batches(
    connection: AsyncConnection, lane: int, player: str | None, limit: int
) -> list[BatchSummary]:
    claimed = select(bets.c.batch_id).where(bets.c.lane == lane, bets.c.status == BetStatus.CLAIMED)
    if player is not None:
        claimed = claimed.where(bets.c.player == player)
    where = (batches.c.lane == lane) & batches.c.batch_id.in_(claimed)
    return await _summaries(connection, where, order=(batches.c.number,), limit=limit)


async def recent_rejections(connection: AsyncConnection, limit: int, bet_id: str | None) -> list[Rejection]:
    _check_limit(limit)
    at_the_door = select(rejections).order_by(rejections.c.at.desc(), rejections.c.rejection_id).limit(limit)
    in_batches = (
        select(bets)
        .where(bets.c.status == BetStatus.REJECTED)
        .order_by(bets.c.decided_at.desc(), bets.c.batch_id, bets.c.position)
        .limit(limit)
    )
    if bet_id is not None:
        at_the_door = at_the_door.where(rejections.c.bet_id == bet_id)
        in_batches = in_batches.where(bets.c.bet_id == bet_id)
    found = [rejection_of(row) for row in (await connection.execute(at_the_door)).mappings()]
    found += [rejected_bet_of(row) for row in (await connection.execute(in_batches)).mappings()]
    return sorted(found, key=lambda rejection: rejection.at, reverse=True)[:limit]


async def latest_reconciliations(
    connection: AsyncConnection, limit: int, lane: int | None
) -> list[ReconciliationReport]:
    _check_limit(limit)
    latest = (
        select(reconciliations)
        .order_by(reconciliations.c.at.desc(), reconciliations.c.run_id, reconciliations.c.lane)
        .limit(limit)
    )
    if lane is not None:
        latest = latest.where(reconciliations.c.lane == lane)
    headers = await connection.execute(latest)
    reports: list[ReconciliationReport] = []
    for header in headers.mappings().all():
        found = await connection.execute(
            select(findings)
            .where(findings.c.run_id == header["run_id"], findings.c.lane == header["lane"])
            .order_by(findings.c.position)
        )
        reports.append(report_of(header, found.mappings().all()))
    return reports


async def counts(connection: AsyncConnection) -> JournalCounts:
    of_bets = await connection.execute(select(bets.c.status, func.count()).group_by(bets.c.status))
    reasons: dict[RejectionReason, int] = defaultdict(int)
    for table in (
        select(bets.c.reason, func.count()).where(bets.c.status == BetStatus.REJECTED).group_by(bets.c.reason),
        select(rejections.c.reason, func.count()).group_by(rejections.c.reason),
    ):
        for reason, count in await connection.execute(table):
            reasons[RejectionReason(reason)] += count
    return JournalCounts(bets={BetStatus(status): count for status, count in of_bets}, rejections=dict(reasons))


async def _summaries(
    connection: AsyncConnection, where: ColumnElement[bool] | None, *, order: Sequence[ColumnElement[Any]], limit: int
) -> list[BatchSummary]:
    _check_limit(limit)
    query = select(batches).order_by(*order).limit(limit)
    found = (await connection.execute(query if where is None else query.where(where))).mappings().all()
    if not found:
        return []
    ids = [row["batch_id"] for row in found]
    steps: dict[str, list[Transition]] = defaultdict(list)
    for row in (
        await connection.execute(
            select(transitions).where(transitions.c.batch_id.in_(ids)).order_by(transitions.c.sequence)
        )
    ).mappings():
        steps[row["batch_id"]].append(transition_of(row))
    unproven = [row["batch_id"] for row in found if row["bets_root"] is None]
    live = await _live_figures(connection, unproven) if unproven else {}
    return [summary_of(row, steps[row["batch_id"]], live.get(row["batch_id"])) for row in found]


async def _live_figures(connection: AsyncConnection, batch_ids: Sequence[str]) -> dict[str, RowMapping]:
    rows = await connection.execute(
        select(
            bets.c.batch_id,
            func.count().label("bet_count"),
            func.count(bets.c.player.distinct()).label("player_count"),
            func.sum(-DELTA).label("house_delta"),
        )
        .where(bets.c.batch_id.in_(batch_ids), LIVE)
        .group_by(bets.c.batch_id)
    )
    return {row["batch_id"]: row for row in rows.mappings()}


def _check_limit(limit: int) -> None:
    if not 0 <= limit <= MAX_ROWS_PER_READ:
        raise ValueError(f"a read of {limit} rows is outside 0…{MAX_ROWS_PER_READ}")
