"""What a person sees in Temporal's Web UI: search attributes, summaries, details, the way from a bet to its batch and back."""

import asyncio
import urllib.request

import pytest
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import Client, ScheduleOverlapPolicy, WorkflowExecution

from settlement.bets import Bet
from settlement.reconciliation import ReconciliationReport
from tests.e2e.machine import LANE, Machine, eventually
from workflows.bet import BetProgress
from workflows.settlement import SettlementStatus
from workflows.visibility import BATCH_ID, BATCH_NUMBER, BATCH_STATUS
from workflows.visibility import LANE as LANE_ATTRIBUTE

HTTP_SECONDS = 10
METADATA_QUERY = "__temporal_workflow_metadata"


async def listed(client: Client, query: str) -> dict[str, WorkflowExecution]:
    return {execution.id: execution async for execution in client.list_workflows(query)}


async def shown_details(client: Client, workflow_id: str) -> str:
    metadata = await client.get_workflow_handle(workflow_id).query(METADATA_QUERY, result_type=WorkflowMetadata)
    return metadata.current_details


async def test_from_a_bet_to_its_batch_and_back(machine: Machine, settled: Bet) -> None:
    client, bet_workflow = machine.stack.client, f"bet-{settled.bet_id}"
    batch = await machine.batch(await machine.batch_of(settled))

    described = await client.get_workflow_handle(bet_workflow).describe()
    progress = await client.get_workflow_handle(bet_workflow).query("status", result_type=BetProgress)

    assert described.typed_search_attributes[BATCH_ID] == batch.batch_id
    assert described.typed_search_attributes[BATCH_NUMBER] == batch.number
    assert (progress.state, progress.batch_id, progress.number) == ("settled", batch.batch_id, batch.number)
    assert f"workflow `{batch.batch_id}`" in await shown_details(client, bet_workflow)

    async def both() -> bool:
        found = await listed(client, f'{BATCH_ID.name} = "{batch.batch_id}"')
        return {bet_workflow, batch.batch_id} == found.keys()

    await eventually("the batch's id finds the settlement and its tracked bets", both)


async def test_batches_are_found_by_status_lane_and_number(machine: Machine, settled: Bet) -> None:
    batch = await machine.batch(await machine.batch_of(settled))
    query = 'CroupierBatchStatus = "Confirmed" AND CroupierLane = 0'

    async def confirmed() -> WorkflowExecution | None:
        return (await listed(machine.stack.client, query)).get(batch.batch_id)

    found = await eventually(f"{batch.batch_id} is listed", confirmed)

    attributes = found.typed_search_attributes
    assert attributes[LANE_ATTRIBUTE] == LANE
    assert attributes[BATCH_ID] == batch.batch_id
    assert attributes[BATCH_NUMBER] == batch.number
    assert attributes[BATCH_STATUS] == "Confirmed"
    by_number = f"CroupierBatchNumber = {batch.number} AND CroupierLane = 0"
    assert batch.batch_id in await listed(machine.stack.client, by_number)
    assert "batcher-0" in await listed(machine.stack.client, 'CroupierLane = 0 AND WorkflowType = "Batcher"')


async def test_settlement_shows_its_life_in_summaries_details_and_its_query(machine: Machine, settled: Bet) -> None:
    batch = await machine.batch(await machine.batch_of(settled))
    handle = machine.stack.client.get_workflow_handle(batch.batch_id)

    assert await (await handle.describe()).static_summary() == "lane 0: 1 bets of 1 players"
    status = await handle.query("status", result_type=SettlementStatus)
    assert [step.status for step in status.transitions] == ["Pending", "Proving", "Proved", "Submitted", "Confirmed"]
    details = await shown_details(machine.stack.client, batch.batch_id)
    assert details.startswith(f"**Confirmed** · lane 0 · batch number {batch.number}")

    summaries: dict[str, str] = {}
    async for event in handle.fetch_history_events():
        if event.HasField("activity_task_scheduled_event_attributes"):
            name = event.activity_task_scheduled_event_attributes.activity_type.name
            summaries[name] = event.user_metadata.summary.data.decode()
    assert batch.landing is not None
    assert summaries == {
        "prove_batch": f'"batch {batch.number}: 1 bets, circuit 16x8"',
        "confirm_settlement": f'"batch {batch.number}, 1 signed"',
    }


async def test_bet_and_lane_have_summaries_and_details(machine: Machine, settled: Bet) -> None:
    client = machine.stack.client
    bet = await client.get_workflow_handle(f"bet-{settled.bet_id}").describe()
    lane = await client.get_workflow_handle("batcher-0").describe()
    assert await bet.static_summary() == f"{settled.player}: {settled.stake} lamports"
    assert await lane.static_summary() == "lane 0"
    assert "**lane 0**" in await shown_details(client, "batcher-0")


async def test_web_ui_answers(machine: Machine) -> None:
    def status() -> int:
        with urllib.request.urlopen(machine.stack.web_ui, timeout=HTTP_SECONDS) as answer:
            return answer.status

    assert await asyncio.to_thread(status) == 200


@pytest.mark.usefixtures("settled")
async def test_scheduled_reconciliation_exists_and_a_triggered_run_agrees(machine: Machine) -> None:
    schedule = machine.stack.client.get_schedule_handle("reconciliation")
    described = await schedule.describe()
    [interval] = described.schedule.spec.intervals
    assert interval.every.total_seconds() == machine.stack.settings.reconcile_every_seconds
    earlier = described.info.num_actions

    # One that its interval has started at this very moment may still run.
    await schedule.trigger(overlap=ScheduleOverlapPolicy.BUFFER_ONE)

    async def ran() -> str | None:
        info = (await schedule.describe()).info
        action = info.recent_actions[-1].action if info.num_actions > earlier else None
        return getattr(action, "workflow_id", None)

    workflow_id = await eventually("the triggered reconciliation has started", ran)
    handle = machine.stack.client.get_workflow_handle(workflow_id, result_type=list[ReconciliationReport])
    [report] = await handle.result()
    assert report.findings == ()
    assert report.batches_compared >= 1
