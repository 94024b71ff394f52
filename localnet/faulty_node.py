"""A node that is not in good order: it shows less of the chain than there is, or loses what it is sent.

One is made for each request that an injected fault hits. It must lie consistently: everything that a request learns
from it comes through one sight.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from solders.signature import Signature

from .chain import Sight, View
from .errors import HISTORY_NOT_AVAILABLE, RpcError
from .fault_kinds import Drop, Fault, MinPriorityFee, NoHistory, NullStatuses
from .ledger import Ledger, Status
from .node import Node
from .store import StoredTransaction
from .transactions import Sanitized

_log: Final = structlog.get_logger("localnet.faults")


@dataclass(frozen=True, slots=True)
class Affliction:
    """An injected fault, and what to call when it has had an effect."""

    fault: Fault
    applied: Callable[[], None]


class FaultyNode(Node):
    """A node with these faults, seeing as far as `sight`."""

    def __init__(self, ledger: Ledger, sight: Sight | None, afflictions: Sequence[Affliction]) -> None:
        super().__init__(ledger)
        self._dimmed = sight
        self._afflictions = afflictions

    @property
    def _sight(self) -> Sight | None:
        return self._dimmed

    @property
    def first_available_slot(self) -> int:
        for affliction in self._afflictions:
            if isinstance(affliction.fault, NoHistory):
                affliction.applied()
                return self._ledger.slot_at(self.view("processed").height - affliction.fault.blocks)
        return super().first_available_slot

    def check_history(self) -> None:
        for affliction in self._afflictions:
            if isinstance(affliction.fault, NoHistory):
                affliction.applied()
                raise RpcError(HISTORY_NOT_AVAILABLE, "Transaction history is not available from this node")

    def status(self, signature: Signature, view: View) -> Status | None:
        status = super().status(signature, view)
        for affliction in self._afflictions:
            match affliction.fault:
                case NullStatuses():
                    known = False
                case NoHistory(blocks=blocks):
                    known = self._ledger.status(signature, view, blocks) is not None
                case _:
                    known = True
            if status is not None and not known:
                affliction.applied()
                status = None
        return status

    async def transaction(self, signature: Signature, view: View) -> StoredTransaction | None:
        for affliction in self._afflictions:
            if isinstance(affliction.fault, NullStatuses):
                affliction.applied()
                return None
        return await super().transaction(signature, view)

    async def forward(self, transaction: Sanitized) -> None:
        for affliction in self._afflictions:
            match affliction.fault:
                case Drop():
                    lost = True
                case MinPriorityFee(micro_lamports=least):
                    lost = transaction.compute_unit_price < least
                case _:
                    lost = False
            if lost:
                affliction.applied()
                _log.info("lost", signature=str(transaction.signature), kind=affliction.fault.kind)
                return
        await super().forward(transaction)
