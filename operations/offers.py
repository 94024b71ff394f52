"""The file by which a withdrawal goes from the operator to the vault's owner: signed by the authority, worth nothing alone."""

from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from operations.outbox import Count
from settlement.bets import PlayerKey
from settlement.errors import CroupierError
from settlement.limits import MAX_LANE

MAX_OFFER_BYTES: Final = 16_384
"""An offer has about 800."""


class OfferUnusable(CroupierError):
    """The file that was handed out cannot be read, written or used any more."""


class Offer(BaseModel):
    """What the file holds. Whoever reads it must not believe it: only the transaction in it is signed."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    player: PlayerKey
    lane: Annotated[int, Field(ge=0, le=MAX_LANE)]
    transaction: str
    last_valid_block_height: Count
    signed_after_slot: Count


def read_offer(file: Path) -> Offer:
    """Raises `OfferUnusable`."""
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_OFFER_BYTES + 1)
    except OSError as error:
        raise OfferUnusable(f"{file} cannot be read: {error.strerror}") from None
    try:
        return Offer.model_validate_json(content)
    except ValidationError:
        raise OfferUnusable(f"{file} is not what `withdraw --out` writes: ask the operator for another") from None
