"""Wakes a batch that is parked as Failed, and nothing else."""

from temporalio.client import Client, WorkflowExecutionStatus

from settlement.bets import excerpt
from settlement.errors import NotParked
from settlement.lifecycle import BatchStatus
from workflows import visibility
from workflows.settlement import Settlement


async def retry(client: Client, batch_id: str) -> None:
    """Sends `retry` to a parked batch. Raises `NotParked` if it is anything else. Needs no worker."""
    if not (batch_id.startswith("settlement-") and batch_id.isascii()):
        raise NotParked(f"{excerpt(batch_id)} is no batch: a batch id is settlement-…")
    handle = client.get_workflow_handle_for(Settlement.run, batch_id)
    found = await handle.describe()
    status = found.typed_search_attributes.get(visibility.BATCH_STATUS)
    running = found.status is WorkflowExecutionStatus.RUNNING
    if status != BatchStatus.FAILED or not running:
        raise NotParked(
            f"batch {batch_id} is {status}{'' if running else ', its workflow has ended'}: "
            "only one that is parked as Failed can be retried"
        )
    await handle.signal(Settlement.retry)
