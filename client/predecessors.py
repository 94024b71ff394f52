"""Reads what ended runs of a lane's Batcher have left behind in Temporal: by a query, which replays them, or from their history."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, Final

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import (
    Client,
    WorkflowExecution,
    WorkflowExecutionStatus,
    WorkflowHandle,
    WorkflowHistoryEventFilterType,
)
from temporalio.service import RPCError, RPCStatusCode

from client.answers import MAY_PASS, started_with, temporal_errors
from settlement.bets import Rejection, excerpt
from settlement.errors import LaneUnavailable, PredecessorUnread
from settlement.lanes import Estate, LookBack, QueuedBet, UnheardSignal, UnheardSignals
from workflows import names
from workflows.batcher import Batcher, BatcherInput

ANSWER_TIMEOUT: Final = timedelta(seconds=20)
"""How long a worker may take to replay an ended run of up to 51,200 events."""

LISTED_WITHIN_SECONDS: Final = 5.0
POLL_SECONDS: Final = 0.05
"""One look waits so long for Temporal's listing, which is behind by milliseconds or a second, and asks so often."""

RUNS_LOOKED_AT: Final = 1_000
"""Of a lane's runs the latest so many are looked at; nearly always it is the first or the second."""

UNHEARD_PAGE_BYTES: Final = 1_000_000
"""Half of what Temporal takes as an activity's result."""

MAX_ARGUMENT_BYTES: Final = 100_000
"""Of a longer argument to a signal an excerpt is taken: it is no bet, and is recorded as malformed."""


class TemporalPredecessors:
    """Fulfils `settlement.ports.Predecessors`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def latest(self, look: LookBack) -> str | None:
        workflow_id = names.batcher_id(look.lane)
        with _errors(workflow_id):
            runs = await self._listed(workflow_id, look.run_id)
            for run in sorted(runs, key=lambda run: run.start_time, reverse=True):
                if run.start_time > look.begun:
                    continue
                last = await self._last_continuation(workflow_id, run.run_id)
                if last not in (look.run_id, *look.adopted):
                    return last
            if len(runs) == RUNS_LOOKED_AT:
                raise PredecessorUnread(
                    f"{workflow_id} has continued as new {RUNS_LOOKED_AT} times without taking over"
                )
            return None

    async def estate(self, lane: int, run_id: str) -> Estate:
        workflow_id = names.batcher_id(lane)
        run = self._run(lane, run_id)
        with _errors(workflow_id):
            try:
                return Estate(run_id=run_id, state=await run.query(Batcher.state, rpc_timeout=ANSWER_TIMEOUT))
            except RPCError as error:
                if error.status is RPCStatusCode.NOT_FOUND:
                    return Estate(
                        run_id=run_id, state=None, lost=f"Temporal has forgotten run {run_id} of {workflow_id}"
                    )
                if error.status in MAY_PASS or await self._was_taken_up(run):
                    raise
            # Temporal refuses queries of a run whose first workflow task no worker has completed.
            state = (await self._input(run)).state
            return Estate(run_id=run_id, state=state, unheard=True)

    async def rejections(self, lane: int, run_id: str, start: int, limit: int) -> list[Rejection]:
        with _errors(names.batcher_id(lane)):
            return await self._run(lane, run_id).query(
                Batcher.rejections, args=[start, limit], rpc_timeout=ANSWER_TIMEOUT
            )

    async def overflow(self, lane: int, run_id: str, start: int, limit: int) -> list[QueuedBet]:
        with _errors(names.batcher_id(lane)):
            return await self._run(lane, run_id).query(
                Batcher.overflow, args=[start, limit], rpc_timeout=ANSWER_TIMEOUT
            )

    async def unheard_signals(self, lane: int, run_id: str, after: int) -> UnheardSignals:
        signals: list[UnheardSignal] = []
        room = UNHEARD_PAGE_BYTES
        with _errors(names.batcher_id(lane)):
            async for event in self._run(lane, run_id).fetch_history_events():
                if event.event_id <= after or event.event_type != EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
                    continue
                signal = _signal(event)
                room -= len(signal.name) + sum(map(len, signal.arguments))
                if room < 0 and signals:
                    return UnheardSignals(signals=tuple(signals), after=after)
                signals.append(signal)
                after = event.event_id
        return UnheardSignals(signals=tuple(signals), after=None)

    async def _listed(self, workflow_id: str, run_id: str) -> list[WorkflowExecution]:
        """The workflow's runs once `run_id` is among them: until then whatever ended before it began may be missing just as well."""
        deadline = asyncio.get_running_loop().time() + LISTED_WITHIN_SECONDS
        query = f"WorkflowId = '{workflow_id}'"
        while True:
            runs = [run async for run in self._client.list_workflows(query, limit=RUNS_LOOKED_AT)]
            if run_id in {run.run_id for run in runs}:
                return runs
            if asyncio.get_running_loop().time() > deadline:
                raise LaneUnavailable(f"Temporal does not list run {run_id} of {workflow_id} yet")
            await asyncio.sleep(POLL_SECONDS)

    def _run(self, lane: int, run_id: str) -> WorkflowHandle[Batcher, None]:
        return self._client.get_workflow_handle_for(Batcher.run, names.batcher_id(lane), run_id=run_id)

    async def _last_continuation(self, workflow_id: str, run_id: str) -> str:
        """The last of the runs that continued as new from this one. The listing may be behind, what is asked here is not."""
        while True:
            run = self._client.get_workflow_handle(workflow_id, run_id=run_id)
            try:
                status = (await run.describe()).status
            except RPCError as error:
                if error.status is RPCStatusCode.NOT_FOUND:
                    return run_id
                raise
            if status is not WorkflowExecutionStatus.CONTINUED_AS_NEW:
                return run_id
            async for event in _closing_event(run):
                run_id = event.workflow_execution_continued_as_new_event_attributes.new_execution_run_id

    async def _was_taken_up(self, run: WorkflowHandle[Any, Any]) -> bool:
        async for event in run.fetch_history_events():
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
                return True
        return False

    async def _input(self, run: WorkflowHandle[Any, Any]) -> BatcherInput:
        request = await started_with(self._client, run, BatcherInput)
        if request is None:
            raise PredecessorUnread(f"run {run.run_id} of {run.id} has no history")
        return request


def _closing_event(run: WorkflowHandle[Any, Any]) -> AsyncIterator[HistoryEvent]:
    return run.fetch_history_events(event_filter_type=WorkflowHistoryEventFilterType.CLOSE_EVENT)


def _signal(event: HistoryEvent) -> UnheardSignal:
    sent = event.workflow_execution_signaled_event_attributes
    return UnheardSignal(
        name=excerpt(sent.signal_name),
        arguments=tuple(
            base64.b64encode(_bounded(payload).SerializeToString()).decode() for payload in sent.input.payloads
        ),
    )


def _bounded(payload: Payload) -> Payload:
    if len(payload.data) <= MAX_ARGUMENT_BYTES:
        return payload
    return Payload(metadata=payload.metadata, data=excerpt(payload.data.decode(errors="replace")).encode())


def _errors(workflow_id: str) -> AbstractContextManager[None]:
    return temporal_errors(workflow_id, lambda said: PredecessorUnread(f"{_remedy(workflow_id)} ({said})"))


def _remedy(workflow_id: str) -> str:
    return (
        f"a run of {workflow_id} that was ended may hold acknowledged bets and cannot be read: run the release that it ran on,"
        " or give it up by the signal start_afresh"
    )
