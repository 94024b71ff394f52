"""What Temporal says when it does not do as asked, and what a run was started with: for all that look after workflows."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from temporalio.client import Client, WorkflowHandle, WorkflowQueryFailedError
from temporalio.service import RPCError, RPCStatusCode

from settlement.errors import CroupierError, LaneUnavailable

Input = TypeVar("Input")

MAY_PASS: Final = frozenset(
    {
        RPCStatusCode.CANCELLED,
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.RESOURCE_EXHAUSTED,
        RPCStatusCode.UNAVAILABLE,
        RPCStatusCode.ABORTED,
    }
)
"""What Temporal says where asking again may help; the first two where no worker has answered a query in time."""


@contextmanager
def temporal_errors(subject: str, refused: Callable[[str], CroupierError]) -> Generator[None]:
    """Turns what Temporal says into `LaneUnavailable` where asking again may help, else into `refused` with what it said."""
    try:
        yield
    except WorkflowQueryFailedError as error:
        raise refused(f"it cannot be replayed: {error}") from error
    except RPCError as error:
        if error.status in MAY_PASS:
            raise LaneUnavailable(f"Temporal does not tell of {subject}: {error.message}") from error
        raise refused(error.message) from error


async def started_with(client: Client, run: WorkflowHandle[Any, Any], kind: type[Input]) -> Input | None:
    """What the run was started with, or None if Temporal has forgotten it."""
    try:
        async for event in run.fetch_history_events(page_size=1):
            payloads = event.workflow_execution_started_event_attributes.input.payloads
            (request,) = await client.data_converter.decode(payloads, [kind])
            return request
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
    return None
