"""A bet's format, its identity, and the lane that it belongs to."""

import json
from collections import Counter
from datetime import timedelta
from typing import Any, Final

import base58
import pytest
from hypothesis import given
from hypothesis import strategies as st

from settlement.bets import Bet, RejectionReason, excerpt, lane_of, parse_bet
from settlement.errors import InvalidBet
from settlement.limits import MAX_BET_ID_CHARS, MAX_REJECTED_PAYLOAD_CHARS, MAX_STAKE_LAMPORTS
from tests.domain.samples import KEYS, NOON, PLAYERS, bet, bets

GOOD: Final[dict[str, Any]] = bet("good-id").model_dump(mode="json", exclude_none=True)
JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
PINNED_DIGEST: Final = "3fac3008c09283bf5610520f9037c613d1e22c9f9ef23edc3a4794b330f1e9c2"
PINNED_LANES_OF_4: Final = [3, 3, 3, 2, 0, 3, 1, 1]
PINNED_LANES_OF_65536: Final = [2043, 15199, 12531, 44162]


@given(bets())
def test_a_bet_written_as_json_is_read_as_the_same_bet(original: Bet) -> None:
    for written in (original.model_dump_json(), original.model_dump_json(exclude_none=True)):
        assert parse_bet(json.loads(written)) == original
    assert parse_bet(original) is original


@given(bets())
def test_a_win_pays_the_stake_and_a_loss_costs_it(any_bet: Bet) -> None:
    assert any_bet.delta == (any_bet.stake if any_bet.guess == any_bet.outcome else -any_bet.stake)


@pytest.mark.parametrize("stake", [1, MAX_STAKE_LAMPORTS])
def test_stakes_at_the_bounds_are_bets(stake: int) -> None:
    assert parse_bet({**GOOD, "stake": stake}).stake == stake


@pytest.mark.parametrize("stake", [0, -1, MAX_STAKE_LAMPORTS + 1, 2**64, 10**100])
def test_stakes_beyond_the_bounds_are_out_of_range(stake: int) -> None:
    with pytest.raises(InvalidBet) as error:
        parse_bet({**GOOD, "stake": stake})
    assert (error.value.reason, error.value.bet_id) == (RejectionReason.STAKE_OUT_OF_RANGE, "good-id")


@pytest.mark.parametrize("bet_id", ["a", "Z9", "a.b_c:d-e", "x" * MAX_BET_ID_CHARS, "01J9ZK"])
def test_ids_of_the_allowed_characters_are_bets(bet_id: str) -> None:
    assert parse_bet({**GOOD, "bet_id": bet_id}).bet_id == bet_id


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bet_id", ""),
        ("bet_id", "x" * (MAX_BET_ID_CHARS + 1)),
        ("bet_id", "-starts-with-a-dash"),
        ("bet_id", "a b"),
        ("bet_id", "a/b"),
        ("bet_id", "good-id\n"),
        ("bet_id", "é"),
        ("bet_id", "٣"),
        ("bet_id", 5),
        ("bet_id", None),
        ("player", ""),
        ("player", "0" * 44),
        ("player", base58.b58encode(b"x" * 31).decode()),
        ("player", base58.b58encode(b"x" * 33).decode()),
        ("player", PLAYERS[0] + "\n"),
        ("player", " " + PLAYERS[0]),
        ("player", 7),
        ("stake", "100"),
        ("stake", 1.0),
        ("stake", 1.5),
        ("stake", float("nan")),
        ("stake", True),
        ("stake", None),
        ("guess", "edge"),
        ("guess", "HEADS"),
        ("outcome", None),
        ("outcome", 1),
        ("placed_at", "yesterday"),
        ("placed_at", "2026-01-31"),
        ("placed_at", "2026-01-31T12:00:00"),
        ("placed_at", 1_700_000_000),
        ("placed_at", "1700000000"),
        ("unknown", "field"),
    ],
)
def test_a_broken_field_is_malformed_and_named(field: str, value: object) -> None:
    with pytest.raises(InvalidBet) as error:
        parse_bet({**GOOD, field: value})
    assert error.value.reason == RejectionReason.MALFORMED
    assert error.value.detail.startswith(f"{field}: ")


@pytest.mark.parametrize("field", ["bet_id", "player", "stake", "guess", "outcome"])
def test_a_missing_field_is_malformed_and_named(field: str) -> None:
    with pytest.raises(InvalidBet, match=f"{field}: Field required") as error:
        parse_bet({name: value for name, value in GOOD.items() if name != field})
    assert error.value.reason == RejectionReason.MALFORMED


@pytest.mark.parametrize("payload", [None, 1, 1.5, "bet", b"bet", [], [GOOD], True])
def test_what_is_no_object_is_malformed(payload: object) -> None:
    with pytest.raises(InvalidBet, match="a bet is a JSON object") as error:
        parse_bet(payload)
    assert (error.value.reason, error.value.bet_id) == (RejectionReason.MALFORMED, None)


@given(JSON)
def test_no_json_makes_parsing_fail_otherwise_than_with_a_reason(payload: Any) -> None:
    with pytest.raises(InvalidBet) as error:
        parse_bet(payload)
    assert error.value.reason in list(RejectionReason)
    assert error.value.detail


@given(st.dictionaries(st.sampled_from([*GOOD, "placed_at", "more"]), JSON))
def test_no_json_in_a_bet_s_fields_makes_parsing_fail_otherwise_than_with_a_reason(changes: dict[str, Any]) -> None:
    payload = {**GOOD, **changes}
    if payload == GOOD:
        assert parse_bet(payload) == bet("good-id")
        return
    try:
        parsed = parse_bet(payload)
    except InvalidBet as error:
        refusal = error
    else:
        assert parsed.model_dump(mode="json").items() >= changes.items()
        return
    assert refusal.detail
    assert len(refusal.bet_id or "") <= MAX_BET_ID_CHARS


@given(bets(), st.datetimes(timezones=st.timezones()))
def test_the_digest_ignores_when_a_bet_was_placed(original: Bet, placed_at: Any) -> None:
    assert original.model_copy(update={"placed_at": placed_at}).digest == original.digest


@given(bets(), bets())
def test_the_digest_ignores_nothing_else(one: Bet, other: Bet) -> None:
    same = one.model_copy(update={"placed_at": None}) == other.model_copy(update={"placed_at": None})
    assert (one.digest == other.digest) == same
    for field in ("bet_id", "player", "stake", "guess", "outcome"):
        mixed = one.model_copy(update={field: getattr(other, field)})
        assert (mixed.digest == one.digest) == (getattr(one, field) == getattr(other, field))


def test_the_digest_is_what_it_has_always_been() -> None:
    # Every id of a bet, of a batch and every root on chain follows from it.
    assert bet("pinned").digest.hex() == PINNED_DIGEST
    assert bet("pinned", placed_at=NOON + timedelta(hours=1)).digest.hex() == PINNED_DIGEST


def test_lanes_are_what_they_have_always_been() -> None:
    # A player whose lane moved would have his vault on one lane and his bets on another.
    assert [lane_of(player, 4) for player in PLAYERS[:8]] == PINNED_LANES_OF_4
    assert [lane_of(player, 65_536) for player in PLAYERS[:4]] == PINNED_LANES_OF_65536


@given(KEYS, st.integers(1, 65_536))
def test_every_player_has_one_lane_of_those_there_are(player: str, lanes: int) -> None:
    assert 0 <= lane_of(player, lanes) < lanes
    assert lane_of(player, 1) == 0


def test_players_spread_evenly_over_lanes() -> None:
    keys = [base58.b58encode(number.to_bytes(32, "big")).decode() for number in range(2_000)]
    counts = Counter(lane_of(key, 8) for key in keys)
    # 250 each; 60 is four standard deviations.
    assert all(abs(counts[lane] - 250) < 60 for lane in range(8))


@given(st.text(max_size=3 * MAX_REJECTED_PAYLOAD_CHARS))
def test_an_excerpt_is_bounded_says_what_it_cut_and_holds_no_nul(text: str) -> None:
    cut = excerpt(text)
    assert "\0" not in cut
    assert len(cut) <= MAX_REJECTED_PAYLOAD_CHARS + len("… (cut, 3000 characters)")
    assert cut.startswith(text[:MAX_REJECTED_PAYLOAD_CHARS].replace("\0", "\N{REPLACEMENT CHARACTER}"))
    assert (f"{len(text)} characters" in cut) or len(text) <= MAX_REJECTED_PAYLOAD_CHARS
