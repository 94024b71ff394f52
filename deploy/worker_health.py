"""Says whether this container's worker is at work: the health check of `docker-compose.yml`.

Asks Temporal who polls the task queue and looks for a poller of this host: a process that is alive but no longer takes work does
not pass. It never touches a workflow, and it needs no port in the worker.
"""

import argparse
import asyncio
import os
import socket
import sys
from datetime import UTC, datetime, timedelta
from typing import NoReturn

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.service import RPCError

from client.connection import TemporalUnreachable, connect
from settings import InvalidSetting

# A poll that finds no work is answered after a minute and asked again at once: two missed in a row mean a stuck worker.
MAX_POLL_AGE = timedelta(seconds=150)
RPC_TIMEOUT = timedelta(seconds=5)


async def latest_poll(queue: str, host: str) -> datetime | None:
    """When a worker on `host` last asked `queue` for an activity (UTC), or None if the server knows of none.

    Reads the poller's identity, which the SDK sets to `<process id>@<host name>`. Raises `TemporalUnreachable`, or
    `RPCError` if the server refuses the question.
    """
    client = await connect()
    answer = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        ),
        timeout=RPC_TIMEOUT,
    )
    polls = [
        poller.last_access_time.ToDatetime(tzinfo=UTC)
        for poller in answer.pollers
        if poller.identity.endswith(f"@{host}")
    ]
    return max(polls, default=None)


def complaint(queue: str, host: str) -> str | None:
    """What is wrong with the worker on `host` that should poll `queue`, in one line; None if nothing is."""
    try:
        polled_at = asyncio.run(latest_poll(queue, host))
    except (InvalidSetting, TemporalUnreachable, RPCError) as error:
        return f"task queue {queue}: {error}"
    if polled_at is None:
        return f"no worker on {host} polls task queue {queue}"
    age = datetime.now(UTC) - polled_at
    if age > MAX_POLL_AGE:
        return f"the worker on {host} last polled task queue {queue} {age.total_seconds():.0f} s ago"
    return None


def main() -> NoReturn:
    """Exits with 0 if the worker polls, with 1 and one line on stderr if not."""
    parser = argparse.ArgumentParser(description="Exit 0 if a worker on this host polls the task queue, 1 if not.")
    parser.add_argument("queue", help="name of the task queue")
    queue: str = parser.parse_args().queue
    wrong = complaint(queue, socket.gethostname())
    if wrong is not None:
        print(wrong, file=sys.stderr, flush=True)
    # A thread of the SDK may still be delivering its answer: ending the interpreter under it aborts the process now and then.
    os._exit(wrong is not None)


if __name__ == "__main__":
    main()
