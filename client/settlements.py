"""Finds the workflows of batches in Temporal, and starts again those that ended before they were done."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final

from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle, WorkflowQueryFailedError
from temporalio.common import (
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.service import RPCError, RPCStatusCode

from settlement.errors import LaneUnavailable
from settlement.lifecycle import BatchStatus
from settlement.ports import Execution
from workflows import names, visibility
from workflows.batcher import Batcher
from workflows.settlement import ClosedBatch, Settlement, SettlementInput, SettlementResult

ANSWER_TIMEOUT: Final = timedelta(seconds=10)
"""How long a lane's Batcher may take to say what is in flight."""

MAX_NAMESAKES: Final = 10
"""So many workflows of one batch number, and so many runs of one batch, are looked at."""


class TemporalSettlements:
    """Fulfils `settlement.ports.Settlements`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def execution(self, batch_id: str) -> Execution:
        async with _errors():
            try:
                status = (await self._client.get_workflow_handle(batch_id).describe()).status
            except RPCError as error:
                if error.status is RPCStatusCode.NOT_FOUND:
                    return Execution.UNKNOWN
                raise
        match status:
            case WorkflowExecutionStatus.RUNNING:
                return Execution.RUNNING
            case WorkflowExecutionStatus.COMPLETED:
                return Execution.COMPLETED
            case _:
                return Execution.ENDED

    async def numbered(self, lane: int, number: int) -> list[str]:
        query = (
            f"WorkflowType = '{Settlement.__name__}' AND {visibility.LANE.name} = {lane}"
            f" AND {visibility.BATCH_NUMBER.name} = {number}"
        )
        async with _errors():
            runs = [run.id async for run in self._client.list_workflows(query, limit=MAX_NAMESAKES)]
        return list(dict.fromkeys(runs))

    async def in_flight(self, lane: int) -> list[str]:
        batcher = self._client.get_workflow_handle_for(Batcher.run, names.batcher_id(lane))
        async with _errors():
            try:
                return list((await batcher.query(Batcher.status, rpc_timeout=ANSWER_TIMEOUT)).in_flight)
            except RPCError as error:
                if error.status is RPCStatusCode.NOT_FOUND:
                    return []
                raise

    async def revive(self, lane: int, batch_id: str, number: int | None) -> bool:
        async with _errors():
            cut = await self._as_cut(batch_id)
            if cut is None and number is not None:
                return False
            known = cut or SettlementInput(lane=lane, bets=())
            before = None if number is None else await self._result(batch_id)
            await self._start(
                batch_id,
                SettlementInput(
                    lane=lane,
                    bets=() if number is None else known.bets,
                    tracked=known.tracked,
                    revived=True,
                    number=number,
                    refused=before.refused_bets if before else (),
                    duplicates=before.duplicate_bets if before else (),
                ),
            )
            return True

    async def start_again(self, lane: int, batch_id: str) -> bool:
        async with _errors():
            cut = await self._as_cut(batch_id)
            if cut is None:
                return False
            latest = await self._client.get_workflow_handle(batch_id).describe()
            number = latest.typed_search_attributes.get(visibility.BATCH_NUMBER)
            await self._start(
                batch_id,
                SettlementInput(
                    lane=lane, bets=cut.bets, tracked=cut.tracked, revived=number is not None, number=number
                ),
            )
            return True

    async def tell_closed(self, lane: int, batch_id: str) -> None:
        batcher = self._client.get_workflow_handle_for(Batcher.run, names.batcher_id(lane))
        async with _errors():
            await batcher.signal(Batcher.settlement_closed, ClosedBatch(batch_id=batch_id))

    async def _start(self, batch_id: str, request: SettlementInput) -> None:
        await self._client.start_workflow(
            Settlement.run,
            request,
            id=batch_id,
            task_queue=names.SETTLEMENT_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            static_summary=f"lane {request.lane}: started again by the reconciliation",
            search_attributes=TypedSearchAttributes(
                [
                    SearchAttributePair(visibility.LANE, request.lane),
                    SearchAttributePair(visibility.BATCH_ID, batch_id),
                    SearchAttributePair(visibility.BATCH_STATUS, BatchStatus.PENDING.value),
                ]
            ),
        )

    async def _as_cut(self, batch_id: str) -> SettlementInput | None:
        """What a run of the batch was started with, if Temporal still knows one that was told its bets."""
        latest = self._client.get_workflow_handle(batch_id)
        if (cut := await self._input(latest)) is not None and cut.bets:
            return cut
        async for run in self._client.list_workflows(f"WorkflowId = '{batch_id}'", limit=MAX_NAMESAKES):
            cut = await self._input(self._client.get_workflow_handle(batch_id, run_id=run.run_id))
            if cut is not None and cut.bets:
                return cut
        return None

    async def _result(self, batch_id: str) -> SettlementResult | None:
        """How the batch's latest run ended, if it came to an end of its own."""
        latest = self._client.get_workflow_handle_for(Settlement.run, batch_id)
        if (await latest.describe()).status is not WorkflowExecutionStatus.COMPLETED:
            return None
        return await latest.result()

    async def _input(self, run: WorkflowHandle[Any, Any]) -> SettlementInput | None:
        try:
            async for event in run.fetch_history_events(page_size=1):
                payloads = event.workflow_execution_started_event_attributes.input.payloads
                (request,) = await self._client.data_converter.decode(payloads, [SettlementInput])
                return request
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
        return None


@asynccontextmanager
async def _errors() -> AsyncGenerator[None]:
    try:
        yield
    except RPCError as error:
        raise LaneUnavailable(f"Temporal does not tell of settlements: {error.message}") from error
    except WorkflowQueryFailedError as error:
        raise LaneUnavailable(f"a lane's Batcher does not say what is in flight: {error}") from error
