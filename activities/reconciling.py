"""Holds the journal against the chain, batch by batch and player by player."""

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

MAX_ANSWERED_BYTES: Final = 1_000_000
"""Of findings so much is answered, of all lanes that are compared in one run: Temporal takes 2 MB as a result."""

logger = structlog.get_logger(__name__)


class ReconcileRequest(BaseModel):
    """Which lane to compare. `run_id` names the run, so that a repeated try writes one report. `found_before`: goes into it, too.

    `room`: how many bytes of findings may be answered.
    """

    model_config = ConfigDict(frozen=True)

    run_id: str
    lane: int
    room: int = MAX_ANSWERED_BYTES
    found_before: tuple[Finding, ...] = ()


class Reconciling:
    """Activities that compare, and write down what they found. They change neither bets nor batches."""

    def __init__(self, journal: Journal, ledger: Ledger) -> None:
        self._journal = journal
        self._ledger = ledger

    @activity.defn
    async def reconcile_lane(self, request: ReconcileRequest) -> ReconciliationReport:
        """Compares every batch of the lane with its signature and record on chain, and the nets with what really moved.

        Answers an extract of the report, which stands whole in the journal.
        """
        with application_errors():
            async with heartbeating():
                report = await self._compare(request)
            await self._journal.record_reconciliation(report)
        for finding in report.findings[len(request.found_before) :]:
            logger.error("reconciliation_finding", lane=request.lane, **finding.model_dump(mode="json"))
        return report.extract(request.room)

    async def _compare(self, request: ReconcileRequest) -> ReconciliationReport:
        records = {record.number: record for record in await self._ledger.batch_records(request.lane)}
        findings = list(request.found_before)
        players: set[str] = set()
        compared, still_open, after = 0, 0, 0
        while page := await self._journal.batches(request.lane, after, BATCHES_PER_PAGE):
            for summary in page:
                after = summary.number
                record = records.pop(summary.number, None)
                try:
                    bets = tuple(await self._journal.bets_of(summary.batch_id))
                except JournalConflict as conflict:
                    findings.append(unreadable(summary, str(conflict)))
                    continue
                if summary.status is not BatchStatus.CONFIRMED:
                    # Failed without a claimed bet is an end too: none was left to settle.
                    ended = summary.status is BatchStatus.FAILED and not any(
                        bet.status is BetStatus.CLAIMED for bet in bets
                    )
                    still_open += not ended
                    findings += await self._open_batch(summary, bets, record)
                elif record is None and await self._is_not_final_yet(summary, bets):
                    still_open += 1
                else:
                    found = list(compare_batch(await self._both_sides(summary, bets, record)))
                    if found and await self._is_amended(summary):
                        still_open += 1
                        continue
                    compared += 1
                    players |= {bet.bet.player for bet in bets if bet.status is BetStatus.SETTLED}
                    findings += found
        findings += [not_in_journal(record) for record in records.values()]
        return ReconciliationReport(
            run_id=request.run_id,
            lane=request.lane,
            at=datetime.now(UTC),
            batches_compared=compared,
            players_compared=len(players),
            open_batches=still_open,
            findings=tuple(findings),
        )

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
        self, summary: BatchSummary, bets: tuple[BetRecord, ...], record: OnChainBatch | None
    ) -> SettledBatch:
        players = sorted({bet.bet.player for bet in bets if bet.status is BetStatus.SETTLED})
        movement = None
        if summary.landing is not None:
            movement = await self._ledger.movement(summary.landing.signature, summary.lane, players)
        vaults = await self._ledger.vaults(summary.lane, players)
        return SettledBatch(
            summary=summary,
            bets=bets,
            record=record,
            movement=movement,
            vault_indices={player: vault.index for player, vault in vaults.items()},
        )
