"""How every command of `starter.py` runs: one event loop, one line for what a user can mend, one console."""

import asyncio
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Final, TypeVar

import structlog
from rich.console import Console
from temporalio.client import WorkflowFailureError
from temporalio.service import RPCError

from client.connection import TemporalUnreachable, end_process
from embedded.processes import ChildFailed
from embedded.site import StackBusy
from settings import InvalidSetting
from settlement.errors import CroupierError

REPORT_COLUMNS: Final = 140
"""How wide tables are where no terminal says."""

STOPPED_STATUS: Final = 130
"""As shells report a process that Ctrl-C has ended."""

MAX_LAMPORTS: Final = 2**63 - 1
"""The most that an amount on the command line may be: the program moves signed 64-bit amounts."""

console = Console(width=None if sys.stdout.isatty() else REPORT_COLUMNS)

_T = TypeVar("_T")


def say(text: str) -> None:
    """Prints text as it is: nothing in it is markup, and nothing is wrapped."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


async def from_input(read: Callable[[], _T]) -> _T:
    """What `read` gives, which may wait for somebody to type. Ctrl-C ends the wait."""
    answer = Future[_T]()

    def reading() -> None:
        answer.set_running_or_notify_cancel()
        try:
            answer.set_result(read())
        except BaseException as error:
            answer.set_exception(error)

    # A thread of asyncio's own would be waited for at the end, until somebody presses Enter.
    threading.Thread(target=reading, daemon=True).start()
    return await asyncio.wrap_future(answer)


def run(work: Coroutine[Any, Any, int]) -> None:
    """Runs a command and ends the process with the status that it returns.

    What a user or an operator can mend is one line on standard error and exit status 1.
    """

    async def stoppable() -> int:
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await work

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        exit_status = asyncio.run(stoppable())
    except asyncio.CancelledError:
        print("stopped", file=sys.stderr)
        exit_status = STOPPED_STATUS
    except WorkflowFailureError as error:
        print(f"starter: the workflow failed: {error.cause}", file=sys.stderr)
        exit_status = 1
    except (InvalidSetting, TemporalUnreachable, ChildFailed, StackBusy, CroupierError, RPCError) as error:
        print(f"starter: {error}", file=sys.stderr)
        exit_status = 1
    end_process(exit_status)
