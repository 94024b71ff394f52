"""Goes on after a failure that only a person can mend: waits, tries again, and meanwhile says what is wrong."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any, Final, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

FIRST_PAUSE: Final = timedelta(seconds=1)
LONGEST_PAUSE: Final = timedelta(minutes=5)
"""Pauses double from the first to the longest while a workflow waits for what it cannot hurry."""

MAX_DETAIL_CHARS: Final = 500
"""A longer error text is cut."""

MAX_SUMMARY_CHARS: Final = 200
"""Temporal's summaries are limited to 400 bytes."""

Result = TypeVar("Result")


def pause_after(failures: int) -> timedelta:
    """How long to wait after so many failures in a row."""
    return min(FIRST_PAUSE * 2 ** min(failures, 20), LONGEST_PAUSE)


def reason(cause: ApplicationError) -> str:
    """An activity's failure in one line."""
    return f"{cause.type}: {cause.message}"[:MAX_DETAIL_CHARS]


async def uncancellable(work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, which a cancellation of the workflow does not reach: accepted bets are in its hands."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if workflow.cancellation_reason() is None:
            raise  # A worker that forgets the workflow ends its tasks like this.
        workflow.logger.warning("%s cannot be cancelled and goes on", workflow.info().workflow_id)
    # The server takes one cancellation of a run, so nothing is to be warded off any more.
    return await task


async def until_mended(call: Callable[[], Awaitable[Result]], show: Callable[[str], None]) -> Result:
    """The result of an activity, tried again after pauses for as long as it fails in a way that its own retries cannot mend.

    `show` is told what is wrong, and an empty text once nothing is.
    """
    failures = 0
    while True:
        try:
            result = await call()
        except ActivityError as error:
            if not isinstance(error.cause, ApplicationError):
                raise
            why = reason(error.cause)
            workflow.logger.error("%s waits to be mended: %s", workflow.info().workflow_id, why)
            show(why)
            await workflow.sleep(pause_after(failures), summary=why[:MAX_SUMMARY_CHARS])
            failures += 1
        else:
            if failures:
                show("")
            return result
