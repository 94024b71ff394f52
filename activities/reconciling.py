"""Holds the journal against the chain, batch by batch and player by player.

A run over everything takes as long as the lane's history is. One that comes every few minutes therefore compares what is new, what did
not agree or was open the last time, and some of the older batches in turn; and of every batch there is whether both sides have it, with
the same root. What did not agree stands in the journal's reports, so that no other worker and no restart leaves it out.
"""

import asyncio
import random
from collections.abc import Set
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog
from pydantic import BaseModel, ConfigDict
from temporalio import activity

from activities.errors import application_errors
from activities.heartbeats import heartbeating
from settlement.batches import BatchSummary, BetRecord, BetStatus, OnChainBatch, Standing, statement_for
from settlement.errors import JournalConflict, LedgerUnavailable, SettlementRefused
from settlement.lifecycle import BatchStatus
from settlement.ports import Journal, Ledger
from settlement.reconciliation import (
    Finding,
    ReconciliationReport,
    SettledBatch,
    compare_batch,
    compare_open_batch,
    not_in_journal,
    unreadable,
)

BATCHES_PER_PAGE: Final = 100

BATCHES_AT_ONCE: Final = 8
"""Of one lane: a node that is far away takes its time for what moved in each."""

NEWEST: Final = 500
"""Of a lane that this process has not compared before so many batches count as new, unless all are to be compared."""

RECHECKED: Final = 50
"""Of a lane's older batches so many are compared again in each run."""

RECALLED_REPORTS: Final = 3
"""Of the lane's latest reports: a run over everything may end while a scheduled one, which does not know it, is under way."""

MAX_ANSWERED_BYTES: Final = 1_000_000
"""Of findings so much is answered, of all lanes that are compared in one run: Temporal takes 2 MB as a result."""

logger = structlog.get_logger(__name__)


class ReconcileRequest(BaseModel):
    """Which lane to compare. `run_id` names the run, so that a repeated try writes one report. `found_before`: goes into it, too.

    `room`: how many bytes of findings may be answered. `full`: every batch, however old, is compared.
    """

    model_config = ConfigDict(frozen=True)

    run_id: str
    lane: int
    room: int = MAX_ANSWERED_BYTES
    found_before: tuple[Finding, ...] = ()
    full: bool = True


@dataclass(frozen=True)
class _Comparison:
    """What became of comparing one batch: compared, with its players, or open, or without a bet left to settle."""

    findings: tuple[Finding, ...] = ()
    compared: bool = False
    still_open: bool = False
    without_bets: bool = False
    players: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Progress:
    """What of a lane this process has compared: up to number `through`, but for those `left` over. `in_turn`: the next to recheck."""

    through: int
    left: frozenset[int]
    in_turn: int


class _Agenda:
    """Which batches of a lane a run compares; it is asked for all of them, in the order of their numbers."""

    def __init__(self, before: _Progress, differing: Set[str], *, full: bool) -> None:
        """`differing`: batches that earlier reports name."""
        self._before = before
        self._differing = differing
        self._full = full
        self._in_turn = before.in_turn
        self._rechecked = 0

    def has(self, summary: BatchSummary, record: OnChainBatch | None) -> bool:
        number = summary.number
        if self._full or summary.status is not BatchStatus.CONFIRMED:
            return True
        if record is None or record.bets_root != summary.bets_root:
            return True
        if number > self._before.through or number in self._before.left or summary.batch_id in self._differing:
            return True
        if number < self._in_turn or self._rechecked == RECHECKED:
            return False
        self._in_turn, self._rechecked = number + 1, self._rechecked + 1
        return True

    def done(self, through: int, left: Set[int]) -> _Progress:
        """For the next run, once what was compared stands in a report."""
        return _Progress(through, frozenset(left), self._in_turn if self._rechecked == RECHECKED else 0)


class Reconciling:
    """Activities that compare, and write down what they found. They change neither bets nor batches."""

    def __init__(self, journal: Journal, ledger: Ledger) -> None:
        self._journal = journal
        self._ledger = ledger
        self._progress: dict[int, _Progress] = {}

    @activity.defn
    async def reconcile_lane(self, request: ReconcileRequest) -> ReconciliationReport:
        """Compares batches of the lane with their signature and record on chain, and the nets with what really moved.

        Answers an extract of the report, which stands whole in the journal.
        """
        with application_errors():
            async with heartbeating():
                report, progress = await self._compare(request)
            await self._journal.record_reconciliation(report)
        # Only what stands in a report has been compared.
        self._progress[request.lane] = progress
        for finding in report.findings[len(request.found_before) :]:
            logger.error("reconciliation_finding", lane=request.lane, **finding.model_dump(mode="json"))
        return report.extract(request.room)

    async def _compare(self, request: ReconcileRequest) -> tuple[ReconciliationReport, _Progress]:
        records = {record.number: record for record in await self._ledger.batch_records(request.lane)}
        findings = list(request.found_before)
        players: set[str] = set()
        vault_indices: dict[str, int] = {}
        batches, compared, still_open, after = 0, 0, 0, 0
        reports = await self._journal.latest_reconciliations(RECALLED_REPORTS, request.lane)
        agenda = _Agenda(
            self._progress.get(request.lane) or _unknown(max(records, default=0)),
            {finding.batch for report in reports for finding in report.findings},
            full=request.full,
        )
        left: set[int] = set()
        while page := await self._journal.batches(request.lane, after, BATCHES_PER_PAGE):
            after = page[-1].number
            batches += len(page)
            both = [(summary, records.pop(summary.number, None)) for summary in page]
            due = [(summary, record) for summary, record in both if agenda.has(summary, record)]
            for start in range(0, len(due), BATCHES_AT_ONCE):
                chunk = due[start : start + BATCHES_AT_ONCE]
                comparisons = await asyncio.gather(
                    *(self._compare_one(summary, record, vault_indices) for summary, record in chunk),
                    return_exceptions=True,
                )
                for (summary, _), comparison in zip(chunk, comparisons, strict=True):
                    if isinstance(comparison, BaseException):
                        raise comparison
                    findings += comparison.findings
                    compared += comparison.compared
                    still_open += comparison.still_open
                    batches -= comparison.without_bets
                    players |= comparison.players
                    if comparison.findings or comparison.still_open:
                        left.add(summary.number)
        findings += [not_in_journal(record) for record in records.values()]
        report = ReconciliationReport(
            run_id=request.run_id,
            lane=request.lane,
            at=datetime.now(UTC),
            batches_compared=compared,
            players_compared=len(players),
            open_batches=still_open,
            batches=batches,
            findings=tuple(findings),
        )
        # What only the chain has may come into the journal by and by.
        return report, agenda.done(after, left | records.keys())

    async def _compare_one(
        self, summary: BatchSummary, record: OnChainBatch | None, vault_indices: dict[str, int]
    ) -> _Comparison:
        """`vault_indices`: those read so far, of the lane's players; they never change."""
        try:
            bets = tuple(await self._journal.bets_of(summary.batch_id))
        except JournalConflict as conflict:
            return _Comparison(findings=(unreadable(summary, str(conflict)),))
        if summary.status is not BatchStatus.CONFIRMED:
            # Failed without a claimed bet is an end too: none was left to settle.
            ended = summary.status is BatchStatus.FAILED and not any(bet.status is BetStatus.CLAIMED for bet in bets)
            found = tuple(await self._open_batch(summary, bets, record))
            return _Comparison(findings=found, still_open=not ended, without_bets=ended)
        if record is None and await self._is_not_final_yet(summary, bets):
            return _Comparison(still_open=True)
        found = tuple(compare_batch(await self._both_sides(summary, bets, record, vault_indices)))
        if found and await self._is_amended(summary):
            return _Comparison(still_open=True)
        settled = frozenset(bet.bet.player for bet in bets if bet.status is BetStatus.SETTLED)
        return _Comparison(findings=found, compared=True, players=settled)

    async def _open_batch(
        self, summary: BatchSummary, bets: tuple[BetRecord, ...], record: OnChainBatch | None
    ) -> list[Finding]:
        findings = list(compare_open_batch(summary, bets, record))
        # It may have been confirmed between the reads; then the next run compares it.
        now = await self._journal.batch(summary.batch_id) if findings else None
        return [] if now is not None and now.status is BatchStatus.CONFIRMED else findings

    async def _is_not_final_yet(self, summary: BatchSummary, bets: tuple[BetRecord, ...]) -> bool:
        """Whether the chain has its record at the configured commitment, which finality has not reached or not when asked.

        Or a fork has undone it there, and what was signed may land again: its workflow sees to that.
        """
        record = await self._ledger.batch_record(summary.lane, summary.number)
        if record is not None:
            return record.bets_root == summary.bets_root
        settled = [bet.bet for bet in bets if bet.status is BetStatus.SETTLED]
        vaults = await self._ledger.vaults(summary.lane, sorted({bet.player for bet in settled}))
        try:
            statement = statement_for(
                summary.lane, summary.number, settled, {player: vault.index for player, vault in vaults.items()}
            )
        except (KeyError, ValueError):
            return False
        attempts = await self._journal.attempts(summary.batch_id)
        try:
            verdict = await self._ledger.judge(statement, attempts, at_finality=True)
        except (SettlementRefused, JournalConflict, LedgerUnavailable):
            # Unavailable, too, is a node that knows of a landing and shows no record of it.
            return False
        return verdict.standing is not Standing.NONE_LIVE

    async def _is_amended(self, summary: BatchSummary) -> bool:
        """Whether its landing was amended between the reads, after a fork; then the next run compares it."""
        now = await self._journal.batch(summary.batch_id)
        return now is not None and now.landing != summary.landing

    async def _both_sides(
        self,
        summary: BatchSummary,
        bets: tuple[BetRecord, ...],
        record: OnChainBatch | None,
        vault_indices: dict[str, int],
    ) -> SettledBatch:
        players = sorted({bet.bet.player for bet in bets if bet.status is BetStatus.SETTLED})
        movement = None
        if summary.landing is not None:
            movement = await self._ledger.movement(summary.landing.signature, summary.lane, players)
        if unread := [player for player in players if player not in vault_indices]:
            vaults = await self._ledger.vaults(summary.lane, unread)
            vault_indices.update({player: vault.index for player, vault in vaults.items()})
        return SettledBatch(
            summary=summary,
            bets=bets,
            record=record,
            movement=movement,
            vault_indices={player: vault_indices[player] for player in players if player in vault_indices},
        )


def _unknown(highest: int) -> _Progress:
    """Of a lane that this process has not compared yet: wherever its turn begins, others' runs are likely to have begun elsewhere."""
    return _Progress(highest - NEWEST, frozenset(), random.randint(0, highest))
