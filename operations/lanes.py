"""Asks lanes how they stand, and says so where no worker answers. Never waits for one in silence."""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from temporalio.client import WorkflowQueryRejectedError
from temporalio.service import RPCError, RPCStatusCode

from client.intake import TemporalIntake
from settlement.errors import LaneSilent
from workflows import names
from workflows.batcher import BatcherStatus

ANSWER_SECONDS: Final = 10.0
"""How long a lane may take to say how it stands; where a worker polls, it takes some milliseconds."""

ASK_EVERY_SECONDS: Final = 5.0
"""While a command waits, it looks this often whether a worker answers at all."""

SILENT: Final = frozenset({RPCStatusCode.NOT_FOUND, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.FAILED_PRECONDITION})
"""What Temporal says for a lane that no worker has started, and where none polls."""


async def lane_status(intake: TemporalIntake, lane: int) -> BatcherStatus:
    """What the lane holds now. Raises `LaneSilent`."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await intake.status(lane)
    except WorkflowQueryRejectedError as ended:
        outcome = ended.status.name.lower() if ended.status is not None else "ended"
        raise LaneSilent(
            f"{names.batcher_id(lane)} was {outcome} and does not run: the next placement, worker or reconciliation starts it again"
        ) from ended
    except TimeoutError:
        reason = f"nothing within {ANSWER_SECONDS:.0f} seconds"
    except RPCError as error:
        if error.status not in SILENT:
            raise
        reason = error.message
    raise LaneSilent(
        f"no worker answers for lane {lane}: start `python worker.py`, or see {names.batcher_id(lane)} in Temporal's Web UI ({reason})"
    )


@asynccontextmanager
async def telling_of_silence(intake: TemporalIntake) -> AsyncGenerator[None]:
    """Whatever waits inside, standard error says once if no worker answers. Lane 0 stands for all: they share the workers."""

    async def watch() -> None:
        while True:
            await asyncio.sleep(ASK_EVERY_SECONDS)
            try:
                await lane_status(intake, 0)
            except (LaneSilent, RPCError) as silence:
                print(f"starter: still waiting: {silence}", file=sys.stderr)
                return

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
