"""What can be made to go wrong at a node, and the request that asks for it, checked.

Only a vocabulary: `faults` keeps what was injected, `faulty_node` and `server` do it.
"""

from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BaseModel, Field, TypeAdapter, ValidationError, ValidationInfo, field_validator

from .errors import RpcError, invalid_params
from .ledger import STATUS_BLOCKS_MAX
from .node import NODES
from .rpc import METHODS

FAULT_SECONDS_MAX: Final = 3_600.0
FAULT_COUNT_MAX: Final = 1_000_000
"""Requests that one fault may be told to hit."""
BEHIND_BLOCKS_MAX: Final = 4_000
"""How far behind a node may be, and how long, in blocks, one may stand still: then it follows at this distance."""
MESSAGE_CHARS_MAX: Final = 1_000

_ALL: Final = frozenset(METHODS)
_TIMELESS: Final = frozenset({"getHealth", "getVersion", "getGenesisHash", "getMinimumBalanceForRentExemption"})
_OF_THE_CHAIN: Final = _ALL - _TIMELESS - {"getFirstAvailableBlock"}
_SENDING: Final = frozenset({"sendTransaction"})
_METHODS: Final = {
    "drop": _SENDING,
    "min_priority_fee": _SENDING,
    "null_statuses": frozenset({"getSignatureStatuses"}),
    "no_history": frozenset(
        {"getSignatureStatuses", "getTransaction", "getSignaturesForAddress", "getFirstAvailableBlock"}
    ),
    "behind": _OF_THE_CHAIN,
    "delayed_confirmation": _OF_THE_CHAIN,
    "stuck": _OF_THE_CHAIN,
}
"""The methods for which a kind makes sense; all of them for a kind that is not here."""


def methods_of(kind: str) -> frozenset[str]:
    return _METHODS.get(kind, _ALL)


class _Fault(BaseModel, frozen=True, extra="forbid", strict=True):
    kind: str
    node: Annotated[int, Field(ge=0, lt=NODES)] | None = None
    """All nodes if None."""
    seconds: Annotated[float, Field(gt=0, le=FAULT_SECONDS_MAX, allow_inf_nan=False)] | None = None
    count: Annotated[int, Field(ge=1, le=FAULT_COUNT_MAX)] | None = None
    """Requests that it hits; for ever if this and `seconds` are None."""
    methods: Annotated[frozenset[str], Field(strict=False, min_length=1)] | None = None
    """All for which the kind makes sense if None."""

    @field_validator("methods")
    @classmethod
    def _make_sense(cls, methods: frozenset[str] | None, info: ValidationInfo) -> frozenset[str] | None:
        kind = info.data.get("kind")
        if methods is not None and isinstance(kind, str):
            senseless = sorted(methods - methods_of(kind))
            if senseless:
                raise ValueError(f"{kind} does nothing to {', '.join(senseless)}")
        return methods

    def hits(self, node: int, method: str) -> bool:
        return (self.node is None or self.node == node) and method in (self.methods or methods_of(self.kind))


class Drop(_Fault, frozen=True):
    """A transaction is acknowledged, and that is all."""

    kind: Literal["drop"]


class MinPriorityFee(_Fault, frozen=True):
    """A transaction with a lower price is acknowledged, and that is all."""

    kind: Literal["min_priority_fee"]
    micro_lamports: Annotated[int, Field(ge=1, lt=2**64)]


class Refuse(_Fault, frozen=True):
    """The connection is closed before anything is done."""

    kind: Literal["refuse"]


class HttpStatus(_Fault, frozen=True):
    """An HTTP error instead of an answer; nothing is done."""

    kind: Literal["http_status"]
    status: Annotated[int, Field(ge=400, le=599)]


class HangBefore(_Fault, frozen=True):
    """No answer ever comes; nothing is done."""

    kind: Literal["hang_before"]


class HangAfter(_Fault, frozen=True):
    """The request is done, but no answer ever comes."""

    kind: Literal["hang_after"]


class ResetAfter(_Fault, frozen=True):
    """The request is done, and the connection is reset instead of an answer."""

    kind: Literal["reset_after"]


class BadBody(_Fault, frozen=True):
    """The request is done, and the answer cannot be read."""

    kind: Literal["bad_body"]


class RpcFailure(_Fault, frozen=True):
    """A JSON-RPC error instead of an answer; nothing is done."""

    kind: Literal["rpc_error"]
    code: Annotated[int, Field(ge=-(2**31), lt=0)]
    message: Annotated[str, Field(max_length=MESSAGE_CHARS_MAX)] = "injected by croupierInjectFault"
    data: dict[str, Any] | None = None


class NullStatuses(_Fault, frozen=True):
    """No transaction has a status."""

    kind: Literal["null_statuses"]


class NoHistory(_Fault, frozen=True):
    """Searches of the history are refused with -32011, and only the last `blocks` blocks have statuses."""

    kind: Literal["no_history"]
    blocks: Annotated[int, Field(ge=0, le=STATUS_BLOCKS_MAX)] = STATUS_BLOCKS_MAX


class Behind(_Fault, frozen=True):
    """The chain looks as it did `slots` blocks ago, at every commitment."""

    kind: Literal["behind"]
    slots: Annotated[int, Field(ge=1, le=BEHIND_BLOCKS_MAX)]


class DelayedConfirmation(_Fault, frozen=True):
    """Confirmed and finalized stand still; processed goes on."""

    kind: Literal["delayed_confirmation"]


class Stuck(_Fault, frozen=True):
    """All commitments stand still; without a node, the chain itself does: no slot ends."""

    kind: Literal["stuck"]
    methods: None = None


Fault: TypeAlias = (
    Drop
    | MinPriorityFee
    | Refuse
    | HttpStatus
    | HangBefore
    | HangAfter
    | ResetAfter
    | BadBody
    | RpcFailure
    | NullStatuses
    | NoHistory
    | Behind
    | DelayedConfirmation
    | Stuck
)
BeforeFault: TypeAlias = Refuse | HttpStatus | HangBefore
AfterFault: TypeAlias = HangAfter | ResetAfter | BadBody

_FAULT: Final = TypeAdapter[Fault](Annotated[Fault, Field(discriminator="kind")])


def parse_fault(members: dict[str, Any]) -> Fault:
    """Raises RpcError -32602 naming the member that is wrong."""
    try:
        return _FAULT.validate_python(members)
    except ValidationError as error:
        raise _refused(error) from error


def _refused(error: ValidationError) -> RpcError:
    first = error.errors(include_url=False, include_context=False)[0]
    # The first place is the kind; an unknown kind has none.
    member = ".".join(str(place) for place in first["loc"][1:]) or "kind"
    return invalid_params(f"Invalid params: {member}: {first['msg']}")
