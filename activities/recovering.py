"""Starts again what nobody works on any more: a lane's Batcher, and batches that the journal or the chain knows, whose workflow has ended.

Temporal runs one workflow of an id at a time, so that nothing here can start a second one beside one that is at work; and a batch that was
settled after all ends as Confirmed without being settled again, or parks for a person where neither the journal nor Temporal can tell
any more which of its bets that were.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Final

import structlog
from pydantic import BaseModel, ConfigDict
from temporalio import activity

from activities.errors import application_errors
from activities.heartbeats import heartbeating
from settlement.batches import BatchSummary, BetStatus, OnChainBatch
from settlement.errors import JournalConflict, LaneUnavailable, TemporalRefused
from settlement.lifecycle import BatchStatus
from settlement.ports import Execution, Intake, Journal, LedgerReader, Revival, Settlements
from settlement.reconciliation import Finding, lost_batch, not_restarted, restarted, slot_freed

MAX_UNSETTLED: Final = 1_000
"""Of the journal's unsettled batches on a lane so many are looked after in one run, the oldest first; far more than are in flight."""

MAX_RESTARTS: Final = 500
"""After so many a run stops looking for more; the next one goes on. A journal restored from an older copy may have lost many."""

BATCHES_PER_PAGE: Final = 1_000

SECOND_LOOK_SECONDS: Final = 2.0
"""A Batcher holds a slot from a moment before it starts the Settlement: only who is unknown that much later is lost."""

logger = structlog.get_logger(__name__)


class RecoverRequest(BaseModel):
    """Which lane to look after."""

    model_config = ConfigDict(frozen=True)

    lane: int


class Recovering:
    """The activity that repairs, before the reconciliation compares."""

    def __init__(self, journal: Journal, ledger: LedgerReader, settlements: Settlements, intake: Intake) -> None:
        self._journal = journal
        self._ledger = ledger
        self._settlements = settlements
        self._intake = intake

    @activity.defn
    async def recover_lane(self, request: RecoverRequest) -> list[Finding]:
        """What was found and done. Idempotent: what was started again is at work, and is left alone the next time."""
        findings: list[Finding] = []
        with application_errors():
            async with heartbeating():
                async for finding in self._recover(request.lane):
                    logger.warning("lane_repaired", lane=request.lane, **finding.model_dump(mode="json"))
                    findings.append(finding)
                    if len(findings) == MAX_RESTARTS:
                        break
        return findings

    async def _recover(self, lane: int) -> AsyncIterator[Finding]:
        if finding := await self._recover_batcher(lane):
            yield finding
        for batch in await self._journal.unsettled_batches(lane, None, MAX_UNSETTLED):
            if finding := await self._guarded(batch.batch_id, self._recover_open(batch)):
                yield finding
        records, recordless = await self._one_sided(lane)
        for batch in recordless:
            if finding := await self._guarded(batch.batch_id, self._recover_undone(batch)):
                yield finding
        for record in records:
            if finding := await self._recover_unknown(record):
                yield finding
        for batch_id in await self._in_flight(lane):
            if finding := await self._guarded(batch_id, self._recover_slot(lane, batch_id)):
                yield finding

    async def _guarded(self, batch_id: str, recovering: Awaitable[Finding | None]) -> Finding | None:
        """One batch that the journal does not hold in a readable form keeps no other from being started again."""
        try:
            return await recovering
        except JournalConflict as conflict:
            # The comparison, which comes next, reports it.
            logger.error("batch_unreadable", batch_id=batch_id, why=str(conflict))
            return None

    async def _recover_batcher(self, lane: int) -> Finding | None:
        """A lane whose Batcher was terminated, or failed: nobody else starts it, as long as nobody places a bet."""
        batcher = f"the Batcher of lane {lane}"
        try:
            has_ended = await self._intake.restart_batcher(lane)
        except TemporalRefused as why:
            return not_restarted(batcher, str(why))
        return restarted(batcher, "-", "had ended, with what it had taken in") if has_ended else None

    async def _in_flight(self, lane: int) -> list[str]:
        try:
            return await self._settlements.in_flight(lane)
        except (LaneUnavailable, TemporalRefused) as silence:
            # Nothing else may wait for a lane that does not answer; `status` shows that it does not.
            logger.error("lane_silent", lane=lane, why=str(silence))
            return []

    async def _recover_open(self, batch: BatchSummary) -> Finding | None:
        if batch.status is BatchStatus.CONFIRMED:
            return None  # What is wrong with it no workflow could mend.
        before = await self._settlements.execution(batch.batch_id)
        if before is Execution.RUNNING or not await self._is_open(batch.batch_id):
            return None
        return await self._revived(batch, f"{batch.status} as number {batch.number}", f"its workflow was {before}")

    async def _recover_undone(self, batch: BatchSummary) -> Finding | None:
        """A Confirmed batch without a final record: a fork may have undone it, and nobody may be watching.

        A workflow that has completed has seen it final: what is wrong then no workflow could mend.
        """
        if await self._ledger.batch_record(batch.lane, batch.number) is not None:
            return None  # On its way to finality, or another's: then the comparison reports it.
        before = await self._settlements.execution(batch.batch_id)
        if before in (Execution.RUNNING, Execution.COMPLETED):
            return None
        return await self._revived(
            batch, f"{batch.status} as number {batch.number}", f"no record of that number; its workflow was {before}"
        )

    async def _revived(self, batch: BatchSummary, journal: str, elsewhere: str) -> Finding | None:
        """Starts the workflow of a batch that the journal holds."""
        try:
            revival = await self._settlements.revive(batch.lane, batch.batch_id, None)
        except (LaneUnavailable, TemporalRefused) as why:
            return not_restarted(batch.batch_id, str(why))
        return restarted(batch.batch_id, journal, elsewhere) if revival is Revival.STARTED else None

    async def _is_open(self, batch_id: str) -> bool:
        """Whether the journal still calls it open: it is asked again, for a workflow may have ended well between two looks."""
        batch = await self._journal.batch(batch_id)
        if batch is None or batch.status is BatchStatus.CONFIRMED:
            return False
        if batch.status is not BatchStatus.FAILED:
            return True
        return any(bet.status is BetStatus.CLAIMED for bet in await self._journal.bets_of(batch_id))

    async def _one_sided(self, lane: int) -> tuple[list[OnChainBatch], list[BatchSummary]]:
        """The final records that the journal does not know, and the batches that it calls Confirmed and that have none."""
        records = {record.number: record for record in await self._ledger.batch_records(lane)}
        recordless: list[BatchSummary] = []
        after = 0
        while page := await self._journal.batches(lane, after, BATCHES_PER_PAGE):
            for batch in page:
                after = batch.number
                has_record = records.pop(after, None) is not None
                if not has_record and batch.status is BatchStatus.CONFIRMED and len(recordless) < MAX_UNSETTLED:
                    recordless.append(batch)
        return list(records.values()), recordless

    async def _recover_unknown(self, record: OnChainBatch) -> Finding | None:
        """A record that the journal does not know. If several workflows have had its number, a person must tell which is right."""
        batch_ids = await self._settlements.numbered(record.lane, record.number)
        if len(batch_ids) != 1 or await self._journal.batch(batch_ids[0]) is not None:
            return None
        (batch_id,) = batch_ids
        before = await self._settlements.execution(batch_id)
        if before is Execution.RUNNING:
            return None
        try:
            revival = await self._settlements.revive(record.lane, batch_id, record.number)
        except (LaneUnavailable, TemporalRefused) as why:
            return not_restarted(batch_id, str(why))
        if revival is not Revival.STARTED:
            return None
        return restarted(batch_id, f"no batch of number {record.number}", f"a record; its workflow was {before}")

    async def _recover_slot(self, lane: int, batch_id: str) -> Finding | None:
        """A slot of the lane's Batcher, which is held until the batch's workflow has told its end."""
        before = await self._settlements.execution(batch_id)
        if before is Execution.RUNNING:
            return None
        batch = await self._journal.batch(batch_id)
        if batch is not None:
            if before is not Execution.COMPLETED and await self._is_open(batch_id):
                # All its bets are rejected, or it would have been started again already: its end is yet to be written down.
                return await self._revived(batch, "no bet left to settle", f"its workflow was {before}")
        elif before is Execution.UNKNOWN:
            await asyncio.sleep(SECOND_LOOK_SECONDS)
            still = await self._settlements.execution(batch_id) is Execution.UNKNOWN
            return lost_batch(lane, batch_id) if still and batch_id in await self._in_flight(lane) else None
        elif before is Execution.ENDED:
            return await self._started_again(lane, batch_id)
        if batch_id not in await self._in_flight(lane) or not await self._intake.tell_closed(lane, batch_id):
            return None
        return slot_freed(lane, batch_id)

    async def _started_again(self, lane: int, batch_id: str) -> Finding | None:
        """Starts the workflow of a batch that only its lane knows."""
        try:
            revival = await self._settlements.start_again(lane, batch_id)
        except (LaneUnavailable, TemporalRefused) as why:
            return not_restarted(batch_id, str(why))
        match revival:
            case Revival.STARTED:
                return restarted(batch_id, "not claimed yet", f"its workflow was {Execution.ENDED}")
            case Revival.RUNNING:
                return None
            case Revival.FORGOTTEN:
                return lost_batch(lane, batch_id)
