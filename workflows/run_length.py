"""How long the history of a lane's run has become, by what the run has done itself.

What Temporal says of it (its events, whether to continue as new) belongs to a task, and so does the time. But a worker that takes a
workflow up where another has stopped may get two tasks as one, with what belongs to the later one: sdk-core does that if a task without
commands follows another such and is followed by an update at once. A replay tells the tasks apart. What is decided by such a value may
then come out otherwise than it did, and a lane that does not do again what its history says does nothing any more.
"""

from typing import Final

MAX_EVENTS: Final = 4_000
MAX_BYTES: Final = 4_000_000
"""After so much a run should continue as new: about where Temporal suggests it. It ends a workflow at twelve times as much. A longer run
takes more of its worker's memory, and longer to replay."""

_TASK_EVENTS: Final = 3
_START_EVENTS: Final = 2 + _TASK_EVENTS
_SIGNAL_EVENTS: Final = 1 + _TASK_EVENTS
_UPDATE_EVENTS: Final = 2 + _TASK_EVENTS
_TIMER_EVENTS: Final = 2 + _TASK_EVENTS
_ACTIVITY_EVENTS: Final = 3 + _TASK_EVENTS
_CHILD_EVENTS: Final = 3 + 2 * _TASK_EVENTS
"""At most: what comes in together shares its task."""

_EVENT_BYTES: Final = 150
_BET_BYTES: Final = 300
"""In an update or a signal, in its answer, and in its batch; as much in a page that is parked or taken up."""


class RunLength:
    """`events`, `size` (in bytes, without what the run began with): estimates, rather too high. `signals`: exactly."""

    def __init__(self) -> None:
        self.events = _START_EVENTS
        self.signals = 0
        self._bytes = 0

    @property
    def size(self) -> int:
        return self._bytes + self.events * _EVENT_BYTES

    def add_signal(self, payload_bytes: int = 0) -> None:
        """A signal has come in."""
        self.signals += 1
        self.events += _SIGNAL_EVENTS
        self._bytes += payload_bytes

    def add_update(self) -> None:
        """An update was accepted."""
        self.events += _UPDATE_EVENTS

    def add_batch(self) -> None:
        """A child is started, mostly after a window's timer."""
        self.events += _CHILD_EVENTS + _TIMER_EVENTS

    def add_activity(self) -> None:
        """An activity is scheduled; should it fail, a timer comes before the next."""
        self.events += _ACTIVITY_EVENTS + _TIMER_EVENTS

    def add_bets(self, count: int) -> None:
        """So many bets were taken in, parked or taken up."""
        self._bytes += count * _BET_BYTES

    def add_bytes(self, count: int) -> None:
        """Anything else that was sent or answered."""
        self._bytes += count
