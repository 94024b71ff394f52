"""Nothing that anybody sends can fail, block or silently pass a lane: what is no bet is recorded with its reason and payload."""

import json
from typing import Any, Final

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import Client, WorkflowUpdateFailedError
from temporalio.common import RawValue
from temporalio.service import RetryConfig, RPCError, RPCStatusCode

from settlement.bets import RejectionReason
from settlement.intake import Answer
from settlement.limits import MAX_BETS_PER_UPDATE, MAX_REJECTED_PAYLOAD_CHARS, MAX_STAKE_LAMPORTS
from tests.workflow.casino import LANE, PLAYERS, Casino, as_json, bet, some_bets
from workflows import names

MALFORMED: Final = RejectionReason.MALFORMED
OUT_OF_RANGE: Final = RejectionReason.STAKE_OUT_OF_RANGE
GOOD: Final[dict[str, Any]] = as_json([bet("good-id")])[0]


def raw(data: bytes, encoding: bytes = b"json/plain") -> RawValue:
    return RawValue(Payload(metadata={"encoding": encoding}, data=data))


def changed(**fields: Any) -> dict[str, Any]:
    return {**GOOD, **fields}


def without(field: str) -> dict[str, Any]:
    return {name: value for name, value in GOOD.items() if name != field}


NOT_BETS: Final[dict[str, tuple[Any, RejectionReason, str]]] = {
    "null": (None, MALFORMED, "not NoneType"),
    "number": (7, MALFORMED, "not int"),
    "text": ("heads", MALFORMED, "not str"),
    "list": ([GOOD], MALFORMED, "not list"),
    "empty object": ({}, MALFORMED, "bet_id: Field required"),
    "no id": (without("bet_id"), MALFORMED, "bet_id"),
    "no player": (without("player"), MALFORMED, "player"),
    "no stake": (without("stake"), MALFORMED, "stake"),
    "no outcome": (without("outcome"), MALFORMED, "outcome"),
    "unknown field": (changed(currency="EUR"), MALFORMED, "currency"),
    "stake as text": (changed(stake="100"), MALFORMED, "stake"),
    "stake with a fraction": (changed(stake=1.5), MALFORMED, "stake"),
    "stake as truth": (changed(stake=True), MALFORMED, "stake"),
    "stake zero": (changed(stake=0), OUT_OF_RANGE, "stake"),
    "stake below zero": (changed(stake=-1), OUT_OF_RANGE, "stake"),
    "stake of 64 bits": (changed(stake=MAX_STAKE_LAMPORTS + 1), OUT_OF_RANGE, "stake"),
    "stake without end": (changed(stake=10**60), OUT_OF_RANGE, "stake"),
    "stake zero and no side": ({**without("guess"), "stake": 0}, MALFORMED, "guess"),
    "third side": (changed(guess="edge"), MALFORMED, "guess"),
    "side in capitals": (changed(outcome="Heads"), MALFORMED, "outcome"),
    "id empty": (changed(bet_id=""), MALFORMED, "bet_id"),
    "id of 65 characters": (changed(bet_id="x" * 65), MALFORMED, "bet_id"),
    "id with a space": (changed(bet_id="a b"), MALFORMED, "bet_id"),
    "id with a newline": (changed(bet_id="a\n"), MALFORMED, "bet_id"),
    "id with a NUL": (changed(bet_id="a\0b"), MALFORMED, "bet_id"),
    "id in another script": (changed(bet_id="ставка"), MALFORMED, "bet_id"),
    "id of a picture": (changed(bet_id="🎰"), MALFORMED, "bet_id"),
    "id as number": (changed(bet_id=5), MALFORMED, "bet_id"),
    "key too short": (changed(player="abc"), MALFORMED, "player"),
    "key of 31 bytes": (changed(player="1" * 32 + "2"), MALFORMED, "player"),
    "key not base58": (changed(player="0" * 44), MALFORMED, "player"),
    "time without offset": (changed(placed_at="2026-01-31T12:00:00"), MALFORMED, "placed_at"),
    "time as number": (changed(placed_at=1_700_000_000), MALFORMED, "placed_at"),
    "no JSON": (raw(b"{'bet_id': 1}"), MALFORMED, "not JSON"),
    "cut off": (raw(json.dumps(GOOD).encode()[:-5]), MALFORMED, "not JSON"),
    "nothing at all": (raw(b""), MALFORMED, "not JSON"),
    "bytes that are no text": (raw(b"\xff\xfe\x00"), MALFORMED, "not JSON"),
    "half a surrogate pair": (raw(b'{"bet_id": "\\ud800"}'), MALFORMED, ""),
    "not a number": (raw(b'{"stake": NaN}'), MALFORMED, ""),
    "nested without end": (raw(b"[" * 100_000), MALFORMED, "not JSON"),
    "binary": (raw(b"\x00\x01", b"binary/plain"), MALFORMED, "not bytes"),
    "a null payload": (raw(b"", b"binary/null"), MALFORMED, "not NoneType"),
    "an encoding nobody knows": (raw(b"{}", b"binary/secret"), MALFORMED, "not JSON"),
}


async def test_every_malformed_signal_is_recorded_with_reason_and_payload_and_the_lane_goes_on(casino: Casino) -> None:
    await casino.open_lane()
    first, last = bet("first"), bet("last")
    await casino.signal(first)
    for sent, _, _ in NOT_BETS.values():
        await casino.signal(sent)
    await casino.signal(last)

    rejections = await casino.rejections(len(NOT_BETS))
    found = {(rejection.reason, rejection.detail, rejection.payload) for rejection in rejections}
    for name, (sent, reason, hint) in NOT_BETS.items():
        text = sent.payload.data.decode(errors="replace") if isinstance(sent, RawValue) else None
        # Null travels as no data at all.
        text = text if text is not None else json.dumps(sent, ensure_ascii=False, separators=(",", ":")) if sent else ""
        assert any(
            of_reason is reason
            and hint in detail
            and payload.startswith(text.replace("\0", "\N{REPLACEMENT CHARACTER}")[:500])
            for of_reason, detail, payload in found
        ), name
    assert (await casino.status()).counters.rejected == len(NOT_BETS)
    await casino.idle()
    await casino.assert_settled_once([first, last])


async def test_a_signal_without_argument_is_recorded_as_malformed(casino: Casino) -> None:
    await casino.open_lane()
    await casino.signal()
    (rejection,) = await casino.rejections(1)
    assert (rejection.reason, rejection.detail, rejection.bet_id) == (MALFORMED, "no bet was sent", None)


async def test_a_signal_with_two_bets_is_recorded_as_malformed(casino: Casino) -> None:
    await casino.open_lane()
    bets = some_bets(3)
    await casino.signal(*bets[:2])
    await casino.signal(bets[2])
    (rejection,) = await casino.rejections(1)
    assert (rejection.reason, rejection.detail) == (MALFORMED, "place_bet takes one bet, not 2")
    await casino.idle()
    await casino.assert_settled_once(bets[2:])


async def test_a_bet_signalled_under_an_unknown_name_is_recorded_as_malformed(casino: Casino) -> None:
    lane = await casino.open_lane()
    await lane.signal("place_a_bet", GOOD)
    (rejection,) = await casino.rejections(1)
    assert (rejection.reason, rejection.detail) == (MALFORMED, "there is no signal place_a_bet")
    assert "good-id" in rejection.payload


@pytest.mark.parametrize("signal", ["pause", "resume", "configure", "settlement_closed", names.PLACE_BET])
async def test_no_arguments_of_a_signal_can_stop_a_lane(casino: Casino, signal: str) -> None:
    lane = await casino.open_lane()
    unfit: list[list[Any]] = [[], [None], [{}], ["x", "y"], [[{}], 1, 2], [raw(b"{")], [raw(b"\x00", b"binary/secret")]]
    for arguments in unfit:
        await lane.signal(signal, args=arguments)
    await lane.signal("resume")
    await casino.open_lane()
    bets = some_bets(1)
    await casino.place_many(bets)
    await casino.idle()
    await casino.assert_settled_once(bets)


async def test_a_long_payload_is_cut_and_said_to_be(casino: Casino) -> None:
    await casino.open_lane()
    await casino.signal("x" * 100_000)
    (rejection,) = await casino.rejections(1)
    assert len(rejection.payload) < MAX_REJECTED_PAYLOAD_CHARS + 50
    assert "cut, 100002 characters" in rejection.payload


@pytest.mark.parametrize("count", [1, MAX_BETS_PER_UPDATE])
async def test_of_what_is_far_too_long_for_a_bet_a_client_sends_an_excerpt(casino: Casino, count: int) -> None:
    await casino.open_lane()
    too_long = changed(note="x" * (5_000_000 // count))
    answers = await casino.intake.place_many(LANE, [too_long] * count)
    assert {answer.reason for answer in answers} == {MALFORMED}
    await casino.intake.signal(too_long)
    rejections = await casino.rejections(count + 1)
    assert all("good-id" in rejection.payload and "cut, " in rejection.payload for rejection in rejections)


async def test_an_update_too_large_to_be_answered_is_refused_before_it_reaches_its_lane(
    real_time_casino: Casino,
) -> None:
    casino = real_time_casino
    await casino.open_lane(window_seconds=0.5)
    # The usual client sends what was refused again and again, for ten seconds.
    once = await Client.connect(
        casino.client.service_client.config.target_host, retry_config=RetryConfig(max_retries=1)
    )
    lane = once.get_workflow_handle(names.batcher_id(LANE))
    with pytest.raises(RPCError) as refusal:
        await lane.execute_update(  # pyright: ignore[reportUnknownMemberType] - generic in the SDK
            names.PLACE_BETS, ["x" * 25_000] * MAX_BETS_PER_UPDATE
        )
    assert refusal.value.status is RPCStatusCode.RESOURCE_EXHAUSTED
    bets = some_bets(3)
    await casino.place_many(bets)
    await casino.idle()
    await casino.assert_settled_once(bets)


async def test_malformed_items_of_an_update_are_rejected_and_the_others_settle(casino: Casino) -> None:
    await casino.open_lane()
    bets = some_bets(2)
    items = {name: item for name, item in NOT_BETS.items() if not isinstance(item[0], RawValue)}
    sent = [as_json(bets)[0], *(item[0] for item in items.values()), as_json(bets)[1]]
    answers = await casino.intake.place_many(LANE, sent)
    assert [answers[0].answer, answers[-1].answer] == [Answer.ACCEPTED, Answer.ACCEPTED]
    for (name, (_, reason, hint)), answer in zip(items.items(), answers[1:-1], strict=True):
        assert (answer.answer, answer.reason) == (Answer.REJECTED, reason), name
        assert hint in answer.detail, name
    await casino.rejections(len(items))
    await casino.idle()
    await casino.assert_settled_once(bets)


@pytest.mark.parametrize(
    "sent", [raw(b"{"), raw(b"\x00", b"binary/plain"), raw(b"[]", b"binary/secret"), raw(b'["\\ud800"]')]
)
async def test_an_update_that_cannot_be_read_is_refused_and_the_lane_goes_on(casino: Casino, sent: RawValue) -> None:
    await casino.open_lane()
    with pytest.raises(WorkflowUpdateFailedError):
        await casino.update(sent)
    bets = some_bets(1)
    await casino.place_many(bets)
    await casino.idle()
    await casino.assert_settled_once(bets)


async def test_an_update_with_no_or_too_many_arguments_is_refused_and_the_lane_goes_on(casino: Casino) -> None:
    await casino.open_lane()
    for arguments in ([], [as_json(some_bets(1)), "and another thing"]):
        with pytest.raises(WorkflowUpdateFailedError):
            await casino.update(*arguments)
    bets = some_bets(1)
    await casino.place_many(bets)
    await casino.idle()
    await casino.assert_settled_once(bets)


async def test_a_malformed_signal_names_the_bet_where_its_id_can_be_read(casino: Casino) -> None:
    await casino.open_lane()
    await casino.signal(changed(stake=0))
    (rejection,) = await casino.rejections(1)
    assert (rejection.bet_id, rejection.lane) == ("good-id", LANE)
    assert PLAYERS[0] in rejection.payload
