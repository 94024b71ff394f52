"""What a run has cost in Temporal, read from its histories: events, bytes, billable actions, and workflow tasks that failed.

Actions are counted by Temporal Cloud's rules: a workflow's start, a run that continues it, a signal, an update, a timer, an attempt at
an activity, a heartbeat, an upsert of search attributes and all local activities of one workflow task together are one each, a child is
two. Of heartbeats a history says nothing; they follow from how long an attempt took. Nothing is counted for updates that were refused, and
for queries, which leave no trace.

Sources: Temporal Cloud's documentation, "Actions"; sdk-core, `activity_heartbeat_manager.rs` (throttling) and
`local_activity_state_machine.rs` (markers).
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from temporalio.api.enums.v1 import EventType, TimeoutType, WorkflowTaskFailedCause
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client

from activities.heartbeats import HEARTBEAT_AFTER

READS_AT_ONCE: Final = 8
NANOSECONDS: Final = 10**9
LOCAL_ACTIVITY: Final = "core_local_activity"
"""What sdk-core calls its markers of local activities."""

HEARTBEAT_THROTTLE: Final = 0.8
"""How much of the heartbeat time-out the SDK lets go by between two of them."""

_ACTIONS: Final = {
    EventType.EVENT_TYPE_TIMER_STARTED: 1,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED: 1,
    EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED: 1,
    EventType.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED: 1,
    EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED: 2,
    EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES: 1,
}
"""By type of event."""


@dataclass
class Cost:
    """Of some histories together. `failed_tasks`: workflow tasks that failed or timed out, by whose and why."""

    workflows: int = 0
    events: int = 0
    history_bytes: int = 0
    actions: Counter[str] = field(default_factory=Counter[str])
    failed_tasks: Counter[str] = field(default_factory=Counter[str])

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.workflows + other.workflows,
            self.events + other.events,
            self.history_bytes + other.history_bytes,
            self.actions + other.actions,
            self.failed_tasks + other.failed_tasks,
        )

    def __sub__(self, earlier: "Cost") -> "Cost":
        return Cost(
            self.workflows - earlier.workflows,
            self.events - earlier.events,
            self.history_bytes - earlier.history_bytes,
            self.actions - earlier.actions,
            self.failed_tasks - earlier.failed_tasks,
        )


def actions_of(events: Iterable[HistoryEvent]) -> Counter[str]:
    """The billable actions of one run's history, by what they were for."""
    found = Counter[str]()
    scheduled: dict[int, tuple[str, float]] = {}
    started: dict[int, float] = {}
    tasks_with_local_activities: set[int] = set()
    for event in events:
        kind, at = event.event_type, event.event_time.ToNanoseconds() / NANOSECONDS
        if kind == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
            begun = event.workflow_execution_started_event_attributes
            # A child was counted where it was started.
            if begun.continued_execution_run_id or not begun.HasField("parent_workflow_execution"):
                found["start"] += 1
        elif kind == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
            # A workflow's signal was counted where it was sent.
            if not event.workflow_execution_signaled_event_attributes.HasField("external_workflow_execution"):
                found["signal"] += 1
        elif kind == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            activity = event.activity_task_scheduled_event_attributes
            name = activity.activity_type.name
            scheduled[event.event_id] = (name, activity.heartbeat_timeout.ToNanoseconds() / NANOSECONDS)
        elif kind == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
            attempt = event.activity_task_started_event_attributes
            found[f"activity {scheduled[attempt.scheduled_event_id][0]}"] += attempt.attempt
            started[attempt.scheduled_event_id] = at
        elif kind == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            of = event.activity_task_completed_event_attributes.scheduled_event_id
            name, timeout_seconds = scheduled[of]
            if timeout_seconds and (after_first := (at - started[of]) / timeout_seconds - HEARTBEAT_AFTER) >= 0:
                found["heartbeat"] += 1 + int(after_first / HEARTBEAT_THROTTLE)
        elif kind == EventType.EVENT_TYPE_MARKER_RECORDED:
            marker = event.marker_recorded_event_attributes
            if marker.marker_name == LOCAL_ACTIVITY:
                tasks_with_local_activities.add(marker.workflow_task_completed_event_id)
        elif kind in _ACTIONS:
            found[EventType.Name(kind).removeprefix("EVENT_TYPE_").lower()] += _ACTIONS[kind]
    if tasks_with_local_activities:
        found["local activities"] = len(tasks_with_local_activities)
    return found


def activity_ends(events: Iterable[HistoryEvent]) -> list[tuple[str, float]]:
    """When which activity of one run was done, local ones included, in order; in seconds since the epoch."""
    names: dict[int, str] = {}
    ends: list[tuple[str, float]] = []
    for event in events:
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            names[event.event_id] = event.activity_task_scheduled_event_attributes.activity_type.name
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            of = event.activity_task_completed_event_attributes.scheduled_event_id
            ends.append((names[of], event.event_time.ToNanoseconds() / NANOSECONDS))
        elif event.event_type == EventType.EVENT_TYPE_MARKER_RECORDED:
            marker = event.marker_recorded_event_attributes
            if marker.marker_name == LOCAL_ACTIVITY:
                # Its event is as late as the end of the whole workflow task; sdk-core notes when it was done itself.
                [note] = marker.details["data"].payloads
                told = json.loads(note.data)
                done = told["complete_time"]
                ends.append((told["activity_type"], done["seconds"] + done["nanos"] / NANOSECONDS))
    return ends


def failed_tasks_of(events: Iterable[HistoryEvent]) -> Counter[str]:
    """Workflow tasks of one run that failed or timed out, by why."""
    found = Counter[str]()
    for event in events:
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
            failed = event.workflow_task_failed_event_attributes
            cause = WorkflowTaskFailedCause.Name(failed.cause).removeprefix("WORKFLOW_TASK_FAILED_CAUSE_").lower()
            found[f"{cause}: {failed.failure.message}"] += 1
        elif event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT:
            timed_out = event.workflow_task_timed_out_event_attributes
            found[f"timed out, {TimeoutType.Name(timed_out.timeout_type).removeprefix('TIMEOUT_TYPE_').lower()}"] += 1
    return found


async def cost_of(client: Client, runs: Iterable[tuple[str, str | None]]) -> Cost:
    """What these runs, by workflow and run id, have cost so far; the latest run where the run id is None."""
    turns = asyncio.Semaphore(READS_AT_ONCE)

    async def cost(workflow_id: str, run_id: str | None) -> Cost:
        async with turns:
            run = client.get_workflow_handle(workflow_id, run_id=run_id)
            events = [event async for event in run.fetch_history_events()]
            described = await run.describe()
        return Cost(
            workflows=1,
            events=len(events),
            history_bytes=described.raw_description.workflow_execution_info.history_size_bytes,
            actions=actions_of(events),
            failed_tasks=Counter(
                {f"{workflow_id}: {why}": count for why, count in failed_tasks_of(events).items()},
            ),
        )

    return sum(await asyncio.gather(*(cost(*run) for run in runs)), Cost())


async def runs_of(client: Client, query: str = "") -> list[tuple[str, str | None]]:
    """Workflow and run ids of all runs that visibility shows."""
    return [(run.id, run.run_id) async for run in client.list_workflows(query)]
