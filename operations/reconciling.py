"""Asks for a reconciliation of everything now, or joins one that runs; never a scheduled one, which leaves batches out."""

from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy

from settlement.reconciliation import ReconciliationReport
from workflows import names
from workflows.reconciliation import Reconciliation, ReconciliationInput


async def reconcile(client: Client, lanes: int) -> list[ReconciliationReport]:
    """A report per lane, of a run that begins now, or of one of everything that is under way."""
    handle = await client.start_workflow(
        Reconciliation.run,
        ReconciliationInput(lanes=lanes, full=True),
        id=names.FULL_RECONCILIATION_ID,
        task_queue=names.SETTLEMENT_QUEUE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        static_summary="on demand",
    )
    return await handle.result()
