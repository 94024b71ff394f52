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
"""About 45 seconds, besides what the attempts take. Then the workflow says what is wrong and tries again by itself."""

RETRY_LOCALLY: Final = RetryPolicy(
    initial_interval=timedelta(milliseconds=500),
    backoff_coefficient=2.0,
    maximum_attempts=4,
)
"""About 4 seconds: what runs within a workflow task is not seen from outside until it ends."""

HEARTBEAT_TIMEOUT: Final = timedelta(seconds=10)
"""How long a killed worker's long activity goes unnoticed."""

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
