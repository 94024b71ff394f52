"""Finds the workflows of batches in Temporal, and starts again those that ended before they were done."""

from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Final

from temporalio.client import Client, WorkflowExecutionStatus, WorkflowQueryFailedError, WorkflowQueryRejectedError
from temporalio.common import (
    QueryRejectCondition,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from client.answers import MAY_PASS, started_with, temporal_errors
from settlement.errors import TemporalRefused
from settlement.lifecycle import BatchStatus
from settlement.ports import Execution, Revival
from workflows import names, visibility
from workflows.batcher import Batcher
from workflows.settlement import LeftOut, Settlement, SettlementInput

ANSWER_TIMEOUT: Final = timedelta(seconds=10)
"""How long a worker may take to say what is in flight on a lane, or what an ended batch left out."""

MAX_NAMESAKES: Final = 10
"""So many workflows of one batch number, and so many runs of one batch, are looked at."""


class TemporalSettlements:
    """Fulfils `settlement.ports.Settlements`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def execution(self, batch_id: str) -> Execution:
        with _errors():
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
        with _errors():
            runs = [run.id async for run in self._client.list_workflows(query, limit=MAX_NAMESAKES)]
        return list(dict.fromkeys(runs))

    async def in_flight(self, lane: int) -> list[str]:
        batcher = self._client.get_workflow_handle_for(Batcher.run, names.batcher_id(lane))
        with _errors():
            try:
                status = await batcher.query(
                    Batcher.status, reject_condition=QueryRejectCondition.NOT_OPEN, rpc_timeout=ANSWER_TIMEOUT
                )
            except WorkflowQueryRejectedError:
                return []
            except RPCError as error:
                if error.status is RPCStatusCode.NOT_FOUND:
                    return []
                raise
        return list(status.in_flight)

    async def revive(self, lane: int, batch_id: str, number: int | None) -> Revival:
        with _errors():
            cut = await self._as_cut(batch_id)
            if cut is None and number is not None:
                return Revival.FORGOTTEN
            known = cut or SettlementInput(lane=lane, bets=())
            left_out = await self._left_out(batch_id)
            return await self._start(
                batch_id,
                SettlementInput(
                    lane=lane,
                    bets=() if number is None else known.bets,
                    tracked=known.tracked,
                    revived=True,
                    number=number,
                    refused=left_out.refused,
                    duplicates=left_out.duplicates,
                ),
            )

    async def start_again(self, lane: int, batch_id: str) -> Revival:
        with _errors():
            cut = await self._as_cut(batch_id)
            if cut is None:
                return Revival.FORGOTTEN
            latest = await self._client.get_workflow_handle(batch_id).describe()
            number = latest.typed_search_attributes.get(visibility.BATCH_NUMBER)
            left_out = await self._left_out(batch_id)
            return await self._start(
                batch_id,
                SettlementInput(
                    lane=lane,
                    bets=cut.bets,
                    tracked=cut.tracked,
                    revived=number is not None,
                    number=number,
                    refused=left_out.refused,
                    duplicates=left_out.duplicates,
                ),
            )

    async def _start(self, batch_id: str, request: SettlementInput) -> Revival:
        try:
            await self._client.start_workflow(
                Settlement.run,
                request,
                id=batch_id,
                task_queue=names.SETTLEMENT_QUEUE,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
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
        except WorkflowAlreadyStartedError:
            return Revival.RUNNING
        return Revival.STARTED

    async def _as_cut(self, batch_id: str) -> SettlementInput | None:
        """What a run of the batch was started with, if Temporal still knows one that was told its bets."""
        latest = self._client.get_workflow_handle(batch_id)
        if (cut := await started_with(self._client, latest, SettlementInput)) is not None and cut.bets:
            return cut
        async for run in self._client.list_workflows(f"WorkflowId = '{batch_id}'", limit=MAX_NAMESAKES):
            earlier = self._client.get_workflow_handle(batch_id, run_id=run.run_id)
            cut = await started_with(self._client, earlier, SettlementInput)
            if cut is not None and cut.bets:
                return cut
        return None

    async def _left_out(self, batch_id: str) -> LeftOut:
        """What the batch's latest run left out when it ended, as far as Temporal can still tell.

        Of one that cannot be replayed, or that no worker ever took up, it is what it was told itself.
        """
        try:
            found = await self._client.get_workflow_handle(batch_id).describe()
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return LeftOut()
            raise
        latest = self._client.get_workflow_handle_for(Settlement.run, batch_id, run_id=found.run_id)
        if found.status is WorkflowExecutionStatus.COMPLETED:
            result = await latest.result()
            return LeftOut(refused=result.refused_bets, duplicates=result.duplicate_bets)
        try:
            return await latest.query(Settlement.left_out, rpc_timeout=ANSWER_TIMEOUT)
        except WorkflowQueryFailedError:
            pass
        except RPCError as error:
            if error.status in MAY_PASS:
                raise
        told = await started_with(self._client, latest, SettlementInput)
        if told is None:
            return LeftOut()
        if told.carried is not None:
            return LeftOut(refused=tuple(told.carried.refused), duplicates=tuple(told.carried.duplicates))
        return LeftOut(refused=told.refused, duplicates=told.duplicates)


def _errors() -> AbstractContextManager[None]:
    return temporal_errors("settlements", TemporalRefused)
