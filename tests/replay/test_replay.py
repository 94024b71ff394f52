"""Workflows that run keep running after a release: each recorded history still replays, and one that would not is caught.

A change that fails here needs `workflow.patched` or new histories: see `record`.
"""

import json
from pathlib import Path
from typing import Any, Final

import pytest
from google.protobuf.json_format import MessageToDict
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner
from temporalio.workflow import NondeterminismError

from tests.replay.altered import (
    AlteredBatcher,
    AlteredBet,
    AlteredCircuits,
    AlteredReconciliation,
    AlteredSettlement,
    MeasuredBatcher,
)
from tests.replay.record import HISTORIES, RECORDERS
from worker import WORKFLOWS

FILES: Final = sorted(HISTORIES.glob("*.json"))
ALTERED: Final = [AlteredBatcher, AlteredSettlement, AlteredBet, AlteredReconciliation, AlteredCircuits]
LANE_FILES: Final = [file for file in FILES if file.stem.startswith("batcher_")]
TOO_SHORT, TOO_LONG = 0.9, 2.5
"""Queries, too, make tasks on the test server, of which a workflow does not hear."""

MAX_FILE_BYTES: Final = 100_000
MAX_FLOODED_FILE_BYTES: Final = 800_000
"""A page of parked bets is hundreds."""


def history_of(file: Path) -> WorkflowHistory:
    stored = json.loads(file.read_text())
    return WorkflowHistory.from_json(stored["workflow_id"], stored["history"])


def workflow_type(history: WorkflowHistory) -> str:
    return history.events[0].workflow_execution_started_event_attributes.workflow_type.name


def replayer(workflows: list[Any]) -> Replayer:
    return Replayer(workflows=workflows, data_converter=pydantic_data_converter)


def attempts(history: WorkflowHistory) -> list[int]:
    return [
        event.activity_task_started_event_attributes.attempt
        for event in history.events
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED
    ]


def scheduled(history: WorkflowHistory) -> list[str]:
    return [
        event.activity_task_scheduled_event_attributes.activity_type.name
        for event in history.events
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
    ]


def done_locally(history: WorkflowHistory) -> list[str]:
    """Activities that ran within workflow tasks, by name."""
    return [
        json.loads(event.marker_recorded_event_attributes.details["data"].payloads[0].data)["activity_type"]
        for event in history.events
        if event.event_type == EventType.EVENT_TYPE_MARKER_RECORDED
    ]


def named(prefix: str) -> list[WorkflowHistory]:
    return [history_of(file) for file in FILES if file.name.startswith(prefix)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
async def test_a_recorded_history_replays(file: Path) -> None:
    await replayer(WORKFLOWS).replay_workflow(history_of(file))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
async def test_a_workflow_with_one_step_more_is_caught(file: Path) -> None:
    history = history_of(file)
    with pytest.raises(NondeterminismError):
        await replayer(ALTERED).replay_workflow(history)


@pytest.mark.parametrize("file", LANE_FILES, ids=lambda file: file.stem)
async def test_a_lane_takes_its_history_to_be_as_long_as_it_is_or_somewhat_longer(file: Path) -> None:
    MeasuredBatcher.lengths.clear()
    history = history_of(file)
    await Replayer(
        workflows=[MeasuredBatcher],
        data_converter=pydantic_data_converter,
        workflow_runner=UnsandboxedWorkflowRunner(),
    ).replay_workflow(history)
    (length,) = MeasuredBatcher.lengths
    assert TOO_SHORT < length.events / len(history.events) < TOO_LONG
    assert TOO_SHORT < length.size / sum(event.ByteSize() for event in history.events[1:]) < TOO_LONG


def test_every_recorder_and_every_workflow_type_has_a_history() -> None:
    assert {file.stem.rpartition("-")[0] for file in FILES} == {recorder.__name__ for recorder in RECORDERS}
    types = {workflow_type(history_of(file)) for file in FILES}
    assert types == {"Batcher", "Settlement", "Bet", "Reconciliation", "Circuits"}


def test_the_histories_hold_what_is_hard_to_replay() -> None:
    first, second = named("batcher_continued_as_new")
    assert first.events[-1].event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW
    assert second.events[0].workflow_execution_started_event_attributes.continued_execution_run_id
    assert "record_rejections" in scheduled(first)
    (flooded,) = named("batcher_flooded")
    assert {"park_bets", "read_parked_bets", "unpark_bets"} <= set(scheduled(flooded))
    (breaker,) = named("batcher_breaker")
    signals = [event.workflow_execution_signaled_event_attributes.signal_name for event in breaker.events]
    assert signals.count("settlement_stuck") == 3
    (retried,) = named("settlement_retried")
    assert max(attempts(retried)) >= 2
    assert done_locally(retried).count("sign_settlement") == 2
    (ejected,) = named("settlement_ejected")
    assert scheduled(ejected).count("prove_batch") == 2
    (parked,) = named("settlement_parked")
    assert scheduled(parked).count("record_status") >= 2
    assert any(event.workflow_execution_signaled_event_attributes.signal_name == "retry" for event in parked.events)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_history_is_small_and_tells_nothing_of_the_machine_that_recorded_it(file: Path) -> None:
    assert file.stat().st_size < (MAX_FLOODED_FILE_BYTES if file.stem.startswith("batcher_flooded") else MAX_FILE_BYTES)
    events = [MessageToDict(event) for event in history_of(file).events]
    assert "stackTrace" not in str(events)
    assert str(Path(__file__).parents[2]) not in file.read_text()
