"""Asks a settlement worker, by way of Temporal, which circuits are registered on chain."""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from temporalio.client import Client, WorkflowFailureError
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import TimeoutError as WorkflowTimedOut

from settlement.circuits import RegisteredCircuits
from settlement.errors import CircuitsUnknown
from workflows import names
from workflows.circuits import CircuitsWorkflow

ANSWER_SECONDS: Final = 300.0
"""How long a proving worker waits for a settlement worker that is not there yet; then whoever supervises it starts it again."""
RUN_TIMEOUT: Final = timedelta(seconds=30)
"""An answer is never older than this, and no run stays behind for whom nobody waits any more."""
REMINDER_SECONDS: Final = 10.0

_REMEDY: Final = (
    "no settlement worker has said which circuits are registered: start one (`python worker.py --queues settlement`), with an"
    " RPC node that answers"
)


async def registered_circuits(
    client: Client, still_waiting: Callable[[float], None], patience_seconds: float = ANSWER_SECONDS
) -> RegisteredCircuits:
    """The answer. `still_waiting` is told every `REMINDER_SECONDS` for how many seconds there has been none.

    Raises `CircuitsUnknown` if there is none within `patience_seconds`, or if the settlement worker says that there can be none.
    """
    started = time.monotonic()

    async def remind() -> None:
        while True:
            await asyncio.sleep(REMINDER_SECONDS)
            still_waiting(time.monotonic() - started)

    reminding = asyncio.create_task(remind())
    try:
        async with asyncio.timeout(patience_seconds):
            while True:
                try:
                    return await _answer(client)
                except WorkflowFailureError as error:
                    if not isinstance(error.cause, WorkflowTimedOut):
                        raise CircuitsUnknown(
                            f"the settlement worker cannot say which circuits are registered: {_reason(error)}"
                        ) from None
    except TimeoutError:
        raise CircuitsUnknown(f"for {patience_seconds:.0f} s {_REMEDY}") from None
    finally:
        reminding.cancel()


async def _answer(client: Client) -> RegisteredCircuits:
    """Several workers that start at once share a run: whichever it is, the chain is asked no earlier than `RUN_TIMEOUT` ago."""
    return await client.execute_workflow(
        CircuitsWorkflow.run,
        id=names.CIRCUITS_ID,
        task_queue=names.SETTLEMENT_QUEUE,
        execution_timeout=RUN_TIMEOUT,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        static_summary="registered circuits",
    )


def _reason(error: WorkflowFailureError) -> str:
    cause: BaseException = error
    while (deeper := cause.__cause__) is not None:
        cause = deeper
    return str(cause)
