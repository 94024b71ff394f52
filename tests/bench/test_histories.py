"""Billable actions and failed workflow tasks are counted from histories by the rules that the module states."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from temporalio.api.common.v1 import ActivityType, Payload, Payloads, WorkflowExecution
from temporalio.api.enums.v1 import EventType, TimeoutType, WorkflowTaskFailedCause
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent

from bench.histories import LOCAL_ACTIVITY, actions_of, activity_ends, failed_tasks_of

START: Final = datetime(2026, 1, 31, tzinfo=UTC)


def event(number: int, kind: str, seconds: float = 0, **attributes: Any) -> HistoryEvent:
    """An event of type EVENT_TYPE_`kind` with its attributes, so long after the start."""
    made = HistoryEvent(event_id=number, event_type=EventType.Value(f"EVENT_TYPE_{kind}"))
    made.event_time.FromDatetime(START + timedelta(seconds=seconds))
    made_attributes = getattr(made, f"{kind.lower()}_event_attributes")
    made_attributes.SetInParent()
    for name, value in attributes.items():
        if isinstance(value, timedelta):
            getattr(made_attributes, name).FromTimedelta(value)
        elif isinstance(value, int | str):
            setattr(made_attributes, name, value)
        else:
            getattr(made_attributes, name).CopyFrom(value)
    return made


@pytest.mark.parametrize(
    ("attributes", "actions"),
    [
        ({}, 1),
        ({"continued_execution_run_id": "the-run-before"}, 1),
        ({"parent_workflow_execution": WorkflowExecution(workflow_id="batcher-0")}, 0),
    ],
)
def test_a_start_is_an_action_but_for_a_child_which_its_parent_pays_for(
    attributes: dict[str, Any], actions: int
) -> None:
    assert actions_of([event(1, "WORKFLOW_EXECUTION_STARTED", **attributes)]).total() == actions
    assert actions_of([event(1, "START_CHILD_WORKFLOW_EXECUTION_INITIATED")]).total() == 2


def test_a_signal_between_workflows_is_paid_for_where_it_is_sent() -> None:
    sender = WorkflowExecution(workflow_id="settlement-0-…")
    assert actions_of([event(1, "WORKFLOW_EXECUTION_SIGNALED")]).total() == 1
    assert actions_of([event(1, "WORKFLOW_EXECUTION_SIGNALED", external_workflow_execution=sender)]).total() == 0
    assert actions_of([event(1, "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED")]).total() == 1


@pytest.mark.parametrize(
    "kind", ["TIMER_STARTED", "WORKFLOW_EXECUTION_UPDATE_ACCEPTED", "UPSERT_WORKFLOW_SEARCH_ATTRIBUTES"]
)
def test_an_update_a_timer_and_an_upsert_are_one_each(kind: str) -> None:
    assert actions_of([event(1, kind)]).total() == 1


@pytest.mark.parametrize(
    "kind", ["WORKFLOW_TASK_SCHEDULED", "WORKFLOW_TASK_COMPLETED", "TIMER_FIRED", "TIMER_CANCELED"]
)
def test_what_follows_from_something_paid_for_is_free(kind: str) -> None:
    assert not actions_of([event(1, kind)])


def test_every_attempt_at_an_activity_and_every_heartbeat_that_is_sent_is_an_action() -> None:
    history = [
        event(
            1,
            "ACTIVITY_TASK_SCHEDULED",
            activity_type=ActivityType(name="confirm_settlement"),
            heartbeat_timeout=timedelta(seconds=10),
        ),
        event(2, "ACTIVITY_TASK_STARTED", seconds=1, scheduled_event_id=1, attempt=3),
        event(3, "ACTIVITY_TASK_COMPLETED", seconds=18, scheduled_event_id=1),
        event(4, "ACTIVITY_TASK_SCHEDULED", activity_type=ActivityType(name="record_status")),
        event(5, "ACTIVITY_TASK_STARTED", seconds=19, scheduled_event_id=4, attempt=1),
        event(6, "ACTIVITY_TASK_COMPLETED", seconds=60, scheduled_event_id=4),
    ]
    # Heartbeats: the first after 7.5 of its 17 seconds, another 8 seconds later.
    assert actions_of(history) == {"activity confirm_settlement": 3, "activity record_status": 1, "heartbeat": 2}


def test_an_attempt_that_is_over_before_its_first_heartbeat_sends_none() -> None:
    history = [
        event(
            1,
            "ACTIVITY_TASK_SCHEDULED",
            activity_type=ActivityType(name="prove_batch"),
            heartbeat_timeout=timedelta(seconds=10),
        ),
        event(2, "ACTIVITY_TASK_STARTED", seconds=1, scheduled_event_id=1, attempt=1),
        event(3, "ACTIVITY_TASK_COMPLETED", seconds=5, scheduled_event_id=1),
    ]
    assert actions_of(history) == {"activity prove_batch": 1}


def local_activity(number: int, name: str, task: int, seconds: float) -> HistoryEvent:
    """The marker of a local activity that was done so long after the start, written with workflow task `task`."""
    marker = event(
        number, "MARKER_RECORDED", seconds=60, marker_name=LOCAL_ACTIVITY, workflow_task_completed_event_id=task
    )
    done = {"seconds": int(START.timestamp()) + int(seconds), "nanos": int(seconds % 1 * 10**9)}
    note = Payload(data=json.dumps({"activity_type": name, "complete_time": done}).encode())
    marker.marker_recorded_event_attributes.details["data"].CopyFrom(Payloads(payloads=[note]))
    return marker


def test_local_activities_of_one_workflow_task_are_one_action_and_a_patch_is_none() -> None:
    history = [
        local_activity(5, "claim_batch", 4, 0.5),
        local_activity(6, "claim_batch", 4, 0.75),
        local_activity(9, "sign_settlement", 8, 2),
        event(10, "MARKER_RECORDED", marker_name="core_patch", workflow_task_completed_event_id=12),
    ]
    assert actions_of(history) == {"local activities": 2}


def test_an_activity_has_ended_when_it_was_done_and_not_when_its_workflow_task_was() -> None:
    history = [
        local_activity(5, "claim_batch", 4, 0.5),
        event(6, "ACTIVITY_TASK_SCHEDULED", activity_type=ActivityType(name="prove_batch")),
        event(7, "ACTIVITY_TASK_COMPLETED", seconds=1.5, scheduled_event_id=6),
    ]
    ends = activity_ends(history)
    assert [name for name, _ in ends] == ["claim_batch", "prove_batch"]
    assert [end - START.timestamp() for _, end in ends] == pytest.approx([0.5, 1.5])


def test_workflow_tasks_that_failed_or_timed_out_are_found_with_their_cause() -> None:
    cause = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR
    history = [
        event(1, "WORKFLOW_TASK_COMPLETED"),
        event(2, "WORKFLOW_TASK_FAILED", cause=cause, failure=Failure(message="activity type differs")),
        event(3, "WORKFLOW_TASK_TIMED_OUT", timeout_type=TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE),
    ]
    assert failed_tasks_of(history) == {
        "non_deterministic_error: activity type differs": 1,
        "timed out, start_to_close": 1,
    }
    assert not failed_tasks_of(history[:1])
