"""The bounds of the system, each with its unit and the behaviour at it.

A bound that an operator may want to move is a setting (see `settings.py`); those here are fixed by a format.
"""

from typing import Final

MAX_BET_ID_CHARS: Final = 64
"""A longer id is rejected as malformed. It becomes a workflow id, a primary key and a leaf of the ids tree."""

MAX_STAKE_LAMPORTS: Final = 2**63 - 1
"""A stake outside 1…this is rejected. The program moves signed 64-bit amounts."""

MAX_BATCH_STAKES_LAMPORTS: Final = 2**63 - 1
"""A batch is cut before its stakes sum to more, so every net and the house's opposite fit a signed 64-bit amount."""

MAX_BETS_PER_UPDATE: Final = 100
"""A larger `place_bets` update is refused whole, without a trace in history."""

MAX_BET_BYTES: Final = 4_096
"""A client sends only an excerpt of a longer JSON value: it is no bet, and is recorded as malformed. A bet takes some 300 bytes."""

MAX_IN_FLIGHT_UPDATE_BYTES: Final = 1_500_000
"""Temporal (`history.maxInFlightUpdatePayloads`) refuses updates of one Batcher beyond it. Its own default lets a larger one in that
no worker can answer, so that every workflow task of the lane fails; a full update takes some 30,000 bytes."""

MAX_BUFFERED_EVENTS: Final = 10_000
MAX_BUFFERED_EVENT_BYTES: Final = 8_000_000
"""Temporal (`history.maximumBufferedEventsBatch`, `…SizeInBytes`) fails a workflow task during which more events come in. Its own default
of 100 lets signals that come fast fail every task of their lane; as many as these are all that Temporal takes in one run."""

MAX_LANE: Final = 2**16 - 1
"""Lanes are numbered by an unsigned 16-bit integer on chain."""

MAX_BATCH_NUMBER: Final = 2**64 - 1
"""A lane's batches are numbered by an unsigned 64-bit integer on chain."""

MAX_WINDOW_SECONDS: Final = 3_600
"""How long a lane may let a bet wait for others."""

MAX_BATCHES_IN_FLIGHT: Final = 100
"""Batches of one lane that are settled at once; far below what Temporal lets one workflow have open."""

DEFAULT_BREAKER_AFTER: Final = 3
"""After so many stuck settlements in a row a lane cuts no more batches but to try."""

MAX_REJECTED_PAYLOAD_CHARS: Final = 1_000
"""How much of a rejected payload is kept for a person to read; the rest is cut off, and said to be."""
