"""Hypothesis strategies for bets and the batches made of them."""

from datetime import UTC, datetime
from typing import Any, Final

import base58
from hypothesis import strategies as st

from settlement.batches import Statement, statement_for
from settlement.bets import Bet
from settlement.limits import MAX_BATCH_STAKES_LAMPORTS, MAX_STAKE_LAMPORTS
from settlement.shapes import SHAPES

NOON: Final = datetime(2026, 1, 31, 12, tzinfo=UTC)
PLAYERS: Final = [base58.b58encode(bytes([number]) * 32).decode() for number in range(1, 21)]
VAULTS: Final = {player: 1 + 3 * index for index, player in enumerate(reversed(PLAYERS))}
"""Vault indices, not in the order of the players."""

SIDES: Final = st.sampled_from(["heads", "tails"])
KEYS: Final = st.binary(min_size=32, max_size=32).map(lambda key: base58.b58encode(key).decode())
BET_IDS: Final = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}", fullmatch=True)
STAKES: Final = st.integers(1, MAX_STAKE_LAMPORTS) | st.integers(1, 1_000)
TIMES: Final = st.none() | st.datetimes(timezones=st.just(UTC))


def bets(stakes: st.SearchStrategy[int] = STAKES, players: st.SearchStrategy[str] = KEYS) -> st.SearchStrategy[Bet]:
    """Any bet."""
    return st.builds(
        Bet,
        bet_id=BET_IDS,
        player=players,
        stake=stakes,
        guess=SIDES,
        outcome=SIDES,
        placed_at=TIMES,
    )


def batches(max_bets: int = SHAPES[-1].bets, max_players: int = SHAPES[-1].players) -> st.SearchStrategy[list[Bet]]:
    """Bets that fit one batch, of players with vaults; ids are theirs alone."""
    most = MAX_BATCH_STAKES_LAMPORTS // max_bets
    stakes = st.integers(1, most) | st.integers(1, 1_000)
    return st.lists(
        bets(stakes, st.sampled_from(PLAYERS[:max_players])),
        min_size=1,
        max_size=max_bets,
        unique_by=lambda bet: bet.bet_id,
    )


def statement_of(batch: list[Bet], lane: int = 3, number: int = 7) -> Statement:
    return statement_for(lane, number, batch, VAULTS)


def bet(bet_id: str = "bet", **fields: Any) -> Bet:
    """A loss of 100 lamports, or what `fields` make of it."""
    usual: dict[str, Any] = {"player": PLAYERS[0], "stake": 100, "guess": "heads", "outcome": "tails"}
    return Bet(bet_id=bet_id, **{**usual, **fields})
