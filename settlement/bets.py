"""A bet as clients send it, the rules that it must keep, and the digest that says when two bets are the same."""

import hashlib
import re
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any, Final, Literal

import base58
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from settlement.errors import InvalidBet
from settlement.limits import MAX_BET_ID_CHARS, MAX_REJECTED_PAYLOAD_CHARS, MAX_STAKE_LAMPORTS

PLAYER_KEY_BYTES: Final = 32
MAX_PLAYER_KEY_CHARS: Final = 44
"""In base58."""

RFC3339_START: Final = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:")
BET_DIGEST_DOMAIN: Final = b"croupier/bet/1"
MAX_CACHED_PLAYERS: Final = 65_536
"""Keys whose bytes a process remembers: some 15 MB."""


class RejectionReason(StrEnum):
    """Why a bet is not settled. The values are what clients, the journal and reports see.

    `LANE_SATURATED` stands in journals of earlier releases only: what is too much for a lane waits in the journal now.
    """

    MALFORMED = "malformed"
    STAKE_OUT_OF_RANGE = "stake_out_of_range"
    CONFLICT = "conflict"
    WRONG_LANE = "wrong_lane"
    LANE_SATURATED = "lane_saturated"
    NO_VAULT = "no_vault"
    UNCOVERED = "uncovered"


@lru_cache(MAX_CACHED_PLAYERS)
def player_bytes(key: str) -> bytes:
    """What a key in base58 stands for. Raises `ValueError` if that is nothing. (Decoding in Python takes longer than a bet's rest.)"""
    return base58.b58decode(key)


def _player_key(value: str) -> str:
    try:
        decoded = player_bytes(value)
    except ValueError:
        raise ValueError("is not base58") from None
    if value != value.rstrip():
        # The decoder passes over white space at the end, but such a key would be another player to everything else.
        raise ValueError("is not base58")
    if len(decoded) != PLAYER_KEY_BYTES:
        raise ValueError(f"is {len(decoded)} bytes in base58, a key has {PLAYER_KEY_BYTES}")
    return value


def _written_time(value: object) -> object:
    if not isinstance(value, datetime) and not (isinstance(value, str) and RFC3339_START.match(value)):
        raise ValueError("must be an RFC 3339 time with its offset, like 2026-01-31T12:00:00Z")
    return value


BetId = Annotated[str, Field(pattern=rf"^[A-Za-z0-9][A-Za-z0-9._:-]{{0,{MAX_BET_ID_CHARS - 1}}}$")]
PlayerKey = Annotated[str, Field(min_length=32, max_length=MAX_PLAYER_KEY_CHARS), AfterValidator(_player_key)]
Stake = Annotated[int, Field(ge=1, le=MAX_STAKE_LAMPORTS)]
WrittenTime = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_written_time)]
Side = Literal["heads", "tails"]


class Bet(BaseModel):
    """One resolved bet. `stake` in lamports; a win (guess = outcome) pays the stake again, a loss costs it."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    bet_id: BetId
    player: PlayerKey
    stake: Stake
    guess: Side
    outcome: Side
    placed_at: WrittenTime | None = None

    @property
    def delta(self) -> int:
        """What the bet changes in the player's vault, in lamports."""
        return self.stake if self.guess == self.outcome else -self.stake

    @property
    def digest(self) -> bytes:
        """SHA-256 (32 bytes) of what makes the bet this bet: all fields but `placed_at`, which a resend may stamp anew."""
        bet_id = self.bet_id.encode()
        return hashlib.sha256(
            BET_DIGEST_DOMAIN
            + bytes([len(bet_id)])
            + bet_id
            + player_bytes(self.player)
            + self.stake.to_bytes(8, "big")
            + bytes([self.guess == "heads", self.outcome == "heads"])
        ).digest()


class Rejection(BaseModel):
    """A bet, or something sent as one, that will not be settled, and why. `bet_id` where one could be read."""

    model_config = ConfigDict(frozen=True)

    rejection_id: str
    lane: int
    bet_id: str | None
    reason: RejectionReason
    detail: str
    payload: str
    at: AwareDatetime


def parse_bet(payload: object) -> Bet:
    """Reads decoded JSON as a bet. Raises `InvalidBet` with the reason, a line for people, and the id if there is one."""
    if isinstance(payload, Bet):
        return payload
    if not isinstance(payload, dict):
        raise InvalidBet(RejectionReason.MALFORMED, f"a bet is a JSON object, not {type(payload).__name__}", None)
    try:
        return Bet.model_validate(payload)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)
        fields: dict[Any, Any] = payload  # pyright: ignore[reportUnknownVariableType]
        stated_id = fields.get("bet_id")
        only_stake_range = all(
            problem["loc"] == ("stake",) and problem["type"] in ("greater_than_equal", "less_than_equal")
            for problem in problems
        )
        reason = RejectionReason.STAKE_OUT_OF_RANGE if only_stake_range else RejectionReason.MALFORMED
        detail = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in problems)
        raise InvalidBet(
            reason,
            excerpt(detail),
            excerpt(stated_id[:MAX_BET_ID_CHARS]) if isinstance(stated_id, str) else None,
        ) from None


def check_player(key: str) -> None:
    """Raises `InvalidBet` unless `key` is a player's key: 32 bytes in base58."""
    try:
        _player_key(key)
    except ValueError as error:
        raise InvalidBet(RejectionReason.MALFORMED, f"player {excerpt(key)} {error}", None) from None


def excerpt(text: str) -> str:
    """`text` cut to `MAX_REJECTED_PAYLOAD_CHARS`, marked where it was cut. NUL, which SQL text cannot hold, is shown as U+FFFD."""
    text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if len(text) <= MAX_REJECTED_PAYLOAD_CHARS:
        return text
    return f"{text[:MAX_REJECTED_PAYLOAD_CHARS]}… (cut, {len(text)} characters)"


def lane_of(player: str, lanes: int) -> int:
    """The lane (0…`lanes`-1) that a player belongs to: SHA-256 of the key's bytes, first 8 big-endian, modulo `lanes`."""
    digest = hashlib.sha256(player_bytes(player)).digest()
    return int.from_bytes(digest[:8], "big") % lanes
