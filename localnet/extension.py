"""The JSON-RPC extension that makes faults, served only when asked for; docs/local-ledger.md describes it.

No fault ever hits its methods, so that what was broken can always be mended.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

from .encoding import JsonObject
from .errors import invalid_params
from .fault_kinds import parse_fault
from .faults import Faults
from .ledger import Ledger
from .params import Params

ExtensionMethod: TypeAlias = Callable[[Params], Awaitable[Any]]

SKIPPED_SLOTS_MAX: Final = 100_000
"""Slots that one call may leave without a block."""


class Extension:
    """`methods` maps a method's name to its handler."""

    def __init__(self, ledger: Ledger, faults: Faults) -> None:
        self._ledger = ledger
        self._faults = faults
        self.methods: Mapping[str, ExtensionMethod] = {
            "croupierClearFaults": self._clear_faults,
            "croupierFaults": self._list_faults,
            "croupierFork": self._fork,
            "croupierInjectFault": self._inject_fault,
            "croupierSkipSlots": self._skip_slots,
        }

    async def _inject_fault(self, params: Params) -> int:
        return self._faults.inject(parse_fault(params.members(0)))

    async def _clear_faults(self, _: Params) -> int:
        return self._faults.clear()

    async def _list_faults(self, _: Params) -> JsonObject:
        return self._faults.as_json()

    async def _fork(self, params: Params) -> list[str]:
        depth = _positive(params.members(0), "depth")
        undone = await self._ledger.fork(depth)
        self._faults.count("fork")
        return [str(signature) for signature in undone]

    async def _skip_slots(self, params: Params) -> int:
        slots = _positive(params.members(0), "slots")
        if slots > SKIPPED_SLOTS_MAX:
            raise invalid_params(f"Invalid params: slots must be at most {SKIPPED_SLOTS_MAX}")
        open_slot = await self._ledger.skip_slots(slots)
        self._faults.count("skip_slots")
        return open_slot


def _positive(members: dict[str, Any], name: str) -> int:
    others = sorted(members.keys() - {name})
    if others:
        raise invalid_params(f"Invalid params: {others[0]}: Extra inputs are not permitted")
    value = members.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise invalid_params(f"Invalid params: {name} must be a positive integer")
    return value
