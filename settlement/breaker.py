"""A lane's circuit breaker: after several settlements in a row that are stuck, it cuts no batch but one at a time, to try.

It decides about new batches only: what is in flight goes its own way, and closes the breaker as soon as one batch comes to its end.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, Field

FIRST_PROBE_AFTER: Final = timedelta(seconds=30)
LONGEST_PROBE_AFTER: Final = timedelta(minutes=10)
"""The wait before one batch is tried doubles from the first to the longest, as long as each that is tried gets stuck too."""

MAX_REASON_CHARS: Final = 200
"""Of what a stuck settlement says."""


class BreakerStatus(StrEnum):
    """*Closed*: batches are cut as they are due. *Open*: none is. *Probing*: one was cut, to try."""

    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


class Breaker(BaseModel):
    """`stuck`: why settlements are stuck, by batch id, none having closed in between. `probe`: the batch that was cut to try.

    `probe_at`: when the next may be, if it is open. `probes`: how many in a row have got stuck.
    """

    stuck: dict[str, str] = Field(default_factory=dict[str, str])
    probe: str | None = None
    probe_at: datetime | None = None
    probes: int = 0

    @property
    def status(self) -> BreakerStatus:
        if self.probe_at is None:
            return BreakerStatus.CLOSED
        return BreakerStatus.PROBING if self.probe is not None else BreakerStatus.OPEN

    def note_stuck(self, batch_id: str, why: str, now: datetime, opens_after: int) -> None:
        """A batch in flight is stuck; after `opens_after` different ones in a row the breaker opens."""
        self.stuck[batch_id] = why[:MAX_REASON_CHARS]
        if batch_id == self.probe:
            self.probe = None
            self.probes += 1
            self.probe_at = now + min(FIRST_PROBE_AFTER * 2 ** min(self.probes, 20), LONGEST_PROBE_AFTER)
        elif self.probe_at is None and len(self.stuck) >= opens_after:
            self.probe_at = now + FIRST_PROBE_AFTER

    def note_closed(self) -> None:
        """A batch has come to its end, so there is a way for others."""
        self.stuck, self.probe, self.probe_at, self.probes = {}, None, None, 0

    def note_cut(self, batch_id: str) -> None:
        """A batch was cut."""
        if self.probe_at is not None:
            self.probe = batch_id
