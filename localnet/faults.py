"""The faults that are active now: injected, counted, expired, cleared.

The server asks here once before a request, once for each of its calls, and once after it. Faults live in memory: they
are gone when the process ends, however it ends. They must never change the ledger; `stuck` only holds its open slot.
"""

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

import structlog

from .chain import Sight
from .encoding import JsonObject
from .errors import RpcError, invalid_params
from .fault_kinds import (
    AfterFault,
    BadBody,
    BeforeFault,
    Behind,
    DelayedConfirmation,
    Drop,
    Fault,
    HangAfter,
    HangBefore,
    HttpStatus,
    MinPriorityFee,
    NoHistory,
    NullStatuses,
    Refuse,
    ResetAfter,
    RpcFailure,
    Stuck,
)
from .faulty_node import Affliction, FaultyNode
from .ledger import Ledger
from .node import Node

FAULTS_MAX: Final = 64
"""Faults that may be active at once."""
HANGING_MAX: Final = 256
"""Requests that may hang at once; of further ones the connection is closed."""
HANG_SECONDS_MAX: Final = 120.0
"""The connection of a request that hangs is closed after this."""

_log: Final = structlog.get_logger("localnet.faults")


class ActiveFault:
    """An injected fault; times in the event loop's seconds."""

    def __init__(self, identifier: int, fault: Fault, sight: Sight) -> None:
        self.identifier = identifier
        self.fault = fault
        self.sight_before = sight
        self.ends_at = None if fault.seconds is None else asyncio.get_running_loop().time() + fault.seconds
        self.left = fault.count

    def is_over(self) -> bool:
        return self.left == 0 or (self.ends_at is not None and asyncio.get_running_loop().time() >= self.ends_at)

    def as_json(self) -> JsonObject:
        members: dict[str, Any] = self.fault.model_dump(mode="json", exclude_none=True)
        left: JsonObject = {}
        if self.ends_at is not None:
            left["secondsLeft"] = self.ends_at - asyncio.get_running_loop().time()
        if self.left is not None:
            left["countLeft"] = self.left
        return {"id": self.identifier, **members, **left}


class Faults:
    """At most `FAULTS_MAX` active faults, and how often each kind was applied since the start."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._in_good_order = Node(ledger)
        self._active: list[ActiveFault] = []
        self._identifiers = itertools.count(1)
        self._applied: Counter[str] = Counter()
        self._hanging = 0
        self._released = asyncio.Event()

    def inject(self, fault: Fault) -> int:
        """Raises RpcError -32602 when there are `FAULTS_MAX` already."""
        if len(self._now()) >= FAULTS_MAX:
            raise invalid_params(f"Invalid params: at most {FAULTS_MAX} faults may be active; use croupierClearFaults")
        active = ActiveFault(next(self._identifiers), fault, self._ledger.sight)
        self._active.append(active)
        _log.info("injected", id=active.identifier, **fault.model_dump(exclude_none=True))
        return active.identifier

    def clear(self) -> int:
        """End every fault and close the connections of requests that hang."""
        cleared = len(self._now())
        self._active.clear()
        self._released.set()
        self._released = asyncio.Event()
        return cleared

    def as_json(self) -> JsonObject:
        return {"active": [active.as_json() for active in self._now()], "applied": dict(self._applied)}

    def count(self, kind: str) -> None:
        """Count what was done by a method of its own."""
        self._applied[kind] += 1

    # What the server asks.

    def before(self, node: int, methods: Sequence[str]) -> BeforeFault | None:
        """What happens to a request with these methods instead of being answered."""
        for active in self._hitting(node, methods):
            if isinstance(active.fault, Refuse | HttpStatus | HangBefore):
                self.apply(active)
                return active.fault
        return None

    def node(self, node: int, method: str) -> Node:
        """The node as it is to a call of `method`.

        Raises:
            RpcError: the one that an `rpc_error` says.
        """
        now = sight = self._ledger.sight
        blocks_ago = 0
        afflictions: list[Affliction] = []
        for active in self._hitting(node, [method]):
            match active.fault:
                case RpcFailure(code=code, message=message, data=data):
                    self.apply(active)
                    raise RpcError(code, message, data)
                case Behind(slots=slots):
                    blocks_ago = max(blocks_ago, slots)
                case Stuck(node=int()):
                    sight = sight.at_most(active.sight_before)
                case Stuck():
                    pass  # see no_slot_ends
                case DelayedConfirmation():
                    before = active.sight_before
                    sight = sight.at_most(Sight(now.completed, before.confirmed, before.finalized))
                case Drop() | MinPriorityFee() | NullStatuses() | NoHistory():
                    afflictions.append(Affliction(active.fault, _Once(self, active)))
                    continue
                case _:
                    continue
            self.apply(active)
        sight = sight.blocks_ago(blocks_ago)
        if not afflictions and sight == now:
            return self._in_good_order
        return FaultyNode(self._ledger, None if sight == now else sight, afflictions)

    def after(self, node: int, methods: Sequence[str]) -> AfterFault | None:
        """What happens to a request with these methods now that it was processed, instead of its answer."""
        for active in self._hitting(node, methods):
            if isinstance(active.fault, HangAfter | ResetAfter | BadBody):
                self.apply(active)
                return active.fault
        return None

    async def hang(self) -> None:
        """Wait for `clear`, at most `HANG_SECONDS_MAX`; not at all when `HANGING_MAX` requests do already."""
        if self._hanging >= HANGING_MAX:
            return
        self._hanging += 1
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._released.wait(), HANG_SECONDS_MAX)
        finally:
            self._hanging -= 1

    def no_slot_ends(self) -> bool:
        return any(isinstance(active.fault, Stuck) and active.fault.node is None for active in self._now())

    def apply(self, active: ActiveFault) -> None:
        """Count that the fault has had an effect on a request."""
        self._applied[active.fault.kind] += 1
        if active.left is not None:
            active.left = max(active.left - 1, 0)

    def _hitting(self, node: int, methods: Sequence[str]) -> Iterator[ActiveFault]:
        """Oldest first."""
        return (active for active in self._now() if any(active.fault.hits(node, method) for method in methods))

    def _now(self) -> Sequence[ActiveFault]:
        self._active = [active for active in self._active if not active.is_over()]
        return self._active


class _Once:
    """Applies a fault, once for a request, however often it shows in its answer."""

    def __init__(self, faults: Faults, active: ActiveFault) -> None:
        self._faults = faults
        self._active = active
        self._done = False

    def __call__(self) -> None:
        if not self._done:
            self._done = True
            self._faults.apply(self._active)
