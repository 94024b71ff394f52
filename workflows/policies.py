"""Named time-outs and retries of activities. None gives up: what may pass by itself is tried until it does, or told and tried again."""

from datetime import timedelta
from typing import Final

from temporalio.common import RetryPolicy

RETRY_UNTIL_DONE: Final = RetryPolicy(
    initial_interval=timedelta(milliseconds=500),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=15),
    maximum_attempts=0,
)

RETRY_FOR_A_WHILE: Final = RetryPolicy(
    initial_interval=timedelta(milliseconds=500),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=15),
    maximum_attempts=8,
)
"""About 45 seconds, besides what the attempts take (with a node that hangs, 20 seconds each). Then the workflow says what is wrong, and
tries again by itself."""

NO_RETRY: Final = RetryPolicy(maximum_attempts=1)

PROMPT_TIMEOUT: Final = timedelta(seconds=5)
"""The one attempt that may be made within a workflow task, which takes one of the worker's slots for them as long as it lasts."""

HEARTBEAT_TIMEOUT: Final = timedelta(seconds=10)
"""How long a killed worker's long activity goes unnoticed."""

CONFIRM_HEARTBEAT_TIMEOUT: Final = timedelta(seconds=20)
"""The same for one that waits for finality, which takes some 13 seconds and so as a rule no heartbeat."""

SHORT_CALL_TIMEOUT: Final = timedelta(seconds=30)
"""One attempt at a few statements of SQL."""

LONG_CALL_TIMEOUT: Final = timedelta(minutes=5)
"""One attempt at SQL and RPC calls, each of which may take as long as its own time-out; a dead worker is noticed by heartbeat."""

PROVE_TIMEOUT: Final = timedelta(minutes=5)
"""One attempt at a proof, the wait for a free core included."""

CONFIRM_TIMEOUT: Final = timedelta(minutes=30)
"""One attempt at watching a transaction. The next one goes on where it stopped: nothing is decided by the clock."""

RECONCILE_TIMEOUT: Final = timedelta(hours=1)
"""One attempt at comparing a whole lane."""
