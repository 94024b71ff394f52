"""Reads what anybody may send to a workflow, without ever failing its task."""

from typing import Any, Final

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue

with workflow.unsafe.imports_passed_through():
    from settlement.bets import RejectionReason
    from settlement.errors import InvalidBet


NOTHING: Final = RawValue(Payload())
"""What a handler gets when its sender has sent no argument at all."""


def decoded(payload: RawValue) -> Any:
    """The payload as plain JSON values. Raises `InvalidBet` if there is none or it is no JSON."""
    if payload is NOTHING:
        raise InvalidBet(RejectionReason.MALFORMED, "no bet was sent", None)
    try:
        return workflow.payload_converter().from_payload(payload.payload)
    except Exception as error:
        raise InvalidBet(RejectionReason.MALFORMED, f"the payload is not JSON: {error}", None) from None


def text_of(sent: Any) -> str:
    """What was sent, as text for a person to read."""
    if isinstance(sent, RawValue):
        return sent.payload.data.decode(errors="replace")
    return str(sent)
