"""Reads what anybody may send to a workflow, without ever failing its task."""

from collections.abc import Sequence
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue

with workflow.unsafe.imports_passed_through():
    from settlement.bets import RejectionReason, excerpt
    from settlement.errors import InvalidBet


Model = TypeVar("Model", bound=BaseModel)

NOTHING: Final = RawValue(Payload())
"""What a handler gets when its sender has sent no argument at all."""


def decoded(payload: RawValue) -> Any:
    """The payload as plain JSON values. Raises `InvalidBet` if there is none or it is no JSON."""
    if payload is NOTHING:
        raise InvalidBet(RejectionReason.MALFORMED, "no bet was sent", None)
    try:
        return workflow.payload_converter().from_payload(payload.payload)
    except Exception as error:
        raise InvalidBet(RejectionReason.MALFORMED, excerpt(f"the payload is not JSON: {error}"), None) from None


def only_argument(model: type[Model], arguments: Sequence[Any]) -> Model | None:
    """A signal's one argument as `model`; None, and a line in the log, if anything else was sent."""
    try:
        if len(arguments) == 1:
            return model.model_validate(arguments[0])
        problem = f"{len(arguments)} arguments"
    except ValidationError as error:
        problem = str(error)
    workflow.logger.error("a signal with a %s was expected: %s", model.__name__, problem)
    return None


def text_of(sent: Any) -> str:
    """What was sent, as text for a person to read."""
    if isinstance(sent, RawValue):
        return sent.payload.data.decode(errors="replace")
    return str(sent)
