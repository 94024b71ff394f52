"""What has become of a transfer is said only when the chain proves it, and meanwhile the same bytes are sent again."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from solders.keypair import Keypair
from solders.system_program import TransferParams, transfer

from ledger import landing, transfers
from ledger.reading import ConfirmedAt
from ledger.rpc import RpcClient
from ledger.transfers import Fate, Flight, HistoryForgotten, Outcome, draft, outcome
from settlement.errors import LedgerUnavailable
from tests.ledger.scripted import FINALIZED_SLOT, LAST_VALID, Refusal, ScriptedChain, ScriptedNode, serving
from tests.money.bank import Heard

SIGNED_AFTER = 4_000
FLIGHT = Flight("1" * 64, "AQID", LAST_VALID, SIGNED_AFTER)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landing, "FIRST_POLL_SECONDS", 0.001)
    monkeypatch.setattr(landing, "LAST_POLL_SECONDS", 0.001)


def status(level: str, err: Any = None) -> Any:
    return {"slot": 4_321, "err": err, "confirmationStatus": level}


class Story:
    """A node whose looks at the transaction come one after the other; the last one stays."""

    def __init__(self, node: ScriptedNode, looks: list[tuple[int, int, Any]], kept_from: int = 0) -> None:
        self._looks = looks
        self._at = -1
        node.answers = {
            "getEpochInfo": self._epoch_info,
            "getSignatureStatuses": lambda _: {"context": {"slot": self._look[1]}, "value": [self._look[2]]},
            "getFirstAvailableBlock": lambda _: kept_from,
            "sendTransaction": lambda _: FLIGHT.signature,
        }

    @property
    def _look(self) -> tuple[int, int, Any]:
        return self._looks[min(self._at, len(self._looks) - 1)]

    def _epoch_info(self, params: list[Any]) -> Any:
        assert params == [{"commitment": "finalized"}]
        self._at += 1
        return {"absoluteSlot": FINALIZED_SLOT, "blockHeight": self._look[0], "epoch": 0}


@pytest.fixture
async def node() -> AsyncGenerator[ScriptedNode]:
    async with serving(ScriptedNode()) as node:
        yield node


@asynccontextmanager
async def ended(
    node: ScriptedNode, commitment: ConfirmedAt = "finalized", flight: Flight = FLIGHT
) -> AsyncGenerator[tuple[Outcome, Heard]]:
    heard = Heard()
    async with RpcClient(node.url) as rpc:
        yield await outcome(rpc, flight, commitment, heard), heard


LIVE = (LAST_VALID, FINALIZED_SLOT, None)
DEAD = (LAST_VALID + 1, FINALIZED_SLOT, None)


@pytest.mark.parametrize(
    ("commitment", "looks"),
    [
        ("finalized", ["processed", "confirmed", "finalized"]),
        ("confirmed", ["processed", "confirmed"]),
        ("confirmed", ["finalized"]),
    ],
)
async def test_landed_is_said_at_the_commitment_that_was_asked_for(
    node: ScriptedNode, commitment: ConfirmedAt, looks: list[str]
) -> None:
    Story(node, [(LAST_VALID, FINALIZED_SLOT, status(level)) for level in looks] + [DEAD])
    async with ended(node, commitment) as (end, heard):
        assert end == Outcome(Fate.LANDED, 4_321)
    assert len(node.called("getSignatureStatuses")) == len(looks)
    assert heard.said == (["confirmed, not yet finalized"] if "confirmed" in looks[:-1] else [])


@pytest.mark.parametrize("commitment", ["confirmed", "finalized"])
async def test_a_failure_counts_only_once_it_stays(node: ScriptedNode, commitment: ConfirmedAt) -> None:
    """In another fork it may succeed."""
    error = {"InstructionError": [2, {"Custom": 0x53}]}
    looks = [(LAST_VALID, FINALIZED_SLOT, status(level, error)) for level in ("processed", "confirmed")]
    Story(node, [*looks, (LAST_VALID, FINALIZED_SLOT, status("finalized"))])
    async with ended(node, commitment) as (end, heard):
        assert end.fate is Fate.LANDED
        assert heard.said == ["failed, not yet finalized"]
    Story(node, [*looks, (LAST_VALID, FINALIZED_SLOT, status("finalized", error))])
    async with ended(node, commitment) as (end, _):
        assert (end.fate, end.slot) == (Fate.FAILED, 4_321)
        assert "WITHDRAWAL_UNCOVERED" in end.text


async def test_a_plain_transfer_that_fails_is_not_said_to_lack_rent(node: ScriptedNode) -> None:
    error = {"InstructionError": [2, {"Custom": 1}]}
    Story(node, [(LAST_VALID, FINALIZED_SLOT, status("finalized", error))])
    async with ended(node) as (end, _):
        assert "too few lamports for a transfer" in end.text


async def test_unknown_is_expired_only_when_the_finalized_chain_proves_it(node: ScriptedNode) -> None:
    behind = (LAST_VALID + 1, FINALIZED_SLOT - 1, None)
    Story(node, [LIVE, behind, behind, DEAD])
    async with ended(node) as (end, _):
        assert end == Outcome(Fate.EXPIRED)
    assert len(node.called("getSignatureStatuses")) == 4


async def test_a_node_that_has_forgotten_the_blocks_proves_nothing(node: ScriptedNode) -> None:
    Story(node, [DEAD], kept_from=SIGNED_AFTER + 1)
    with pytest.raises(HistoryForgotten, match="set CROUPIER_RPC_URL to a node that keeps them"):
        async with ended(node):
            pass
    Story(node, [DEAD], kept_from=SIGNED_AFTER)
    async with ended(node) as (end, _):
        assert end.fate is Fate.EXPIRED


async def test_the_same_bytes_are_sent_again_as_long_as_nobody_knows_them(
    node: ScriptedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "RESEND_SECONDS", 0.0)
    Story(node, [LIVE, LIVE, LIVE, (LAST_VALID, FINALIZED_SLOT, status("confirmed")), DEAD])
    async with ended(node, "confirmed"):
        pass
    assert [params[0] for params in node.called("sendTransaction")] == ["AQID"] * 3


async def test_what_another_sends_is_only_waited_for(node: ScriptedNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "RESEND_SECONDS", 0.0)
    Story(node, [LIVE, LIVE, DEAD])
    async with ended(node, flight=Flight(FLIGHT.signature, None, LAST_VALID, SIGNED_AFTER)) as (end, _):
        assert end.fate is Fate.EXPIRED
    assert node.called("sendTransaction") == []


async def test_a_refusal_by_the_node_is_no_outcome(node: ScriptedNode) -> None:
    Story(node, [LIVE, (LAST_VALID, FINALIZED_SLOT, status("finalized"))])

    def refuse(_: list[Any]) -> Any:
        raise Refusal(-32002)

    node.answers["sendTransaction"] = refuse
    async with ended(node) as (end, _):
        assert end.fate is Fate.LANDED


async def test_a_node_that_fails_is_asked_again_and_given_up_at_last(
    node: ScriptedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    Story(node, [(LAST_VALID, FINALIZED_SLOT, status("finalized"))])
    broken: Iterator[bool] = iter([True, True])
    good = node.answers["getEpochInfo"]

    def flaky(params: list[Any]) -> Any:
        if next(broken, False):
            raise Refusal(-32005)
        return good(params)

    node.answers["getEpochInfo"] = flaky
    async with ended(node) as (end, _):
        assert end.fate is Fate.LANDED

    monkeypatch.setattr(landing, "STALL_SECONDS", 0.02)
    node.body = lambda: web.Response(status=503)
    with pytest.raises(LedgerUnavailable, match="HTTP 503"):
        async with ended(node):
            pass


async def test_a_chain_that_stands_still_is_given_up(node: ScriptedNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landing, "STALL_SECONDS", 0.02)
    Story(node, [LIVE])
    with pytest.raises(LedgerUnavailable, match="in vain for transaction"):
        async with ended(node):
            pass


class Clock:
    """A second passes whenever somebody looks."""

    def __init__(self) -> None:
        self._now = 0.0

    def monotonic(self) -> float:
        self._now += 1
        return self._now


async def test_a_chain_that_moves_is_waited_for(node: ScriptedNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landing, "time", Clock())
    monkeypatch.setattr(landing, "STALL_SECONDS", 5.0)
    growing = [(LAST_VALID - 30 + height, FINALIZED_SLOT, None) for height in range(30)]
    Story(node, [*growing, (LAST_VALID, FINALIZED_SLOT, status("finalized"))])
    async with ended(node) as (end, _):
        assert end.fate is Fate.LANDED


async def test_what_went_wrong_long_ago_is_not_what_a_wait_ends_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landing, "STALL_SECONDS", -1.0)
    polling = landing.Polling("node", "something")
    polling.trouble = LedgerUnavailable("long ago")
    polling.restart()
    with pytest.raises(LedgerUnavailable, match="in vain for something"):
        await polling.wait()


PAYER = Keypair().pubkey()
TRANSFER = transfer(TransferParams(from_pubkey=PAYER, to_pubkey=PAYER, lamports=1))


async def test_a_draft_is_dated_by_a_final_slot_and_differs_from_an_equal_one(node: ScriptedNode) -> None:
    """A newer slot could be undone, and the blocks before it be forgotten although it has landed in them."""
    ScriptedChain(node)
    node.answers["getEpochInfo"] = lambda params: {
        "absoluteSlot": {"finalized": 70, "confirmed": 101, "processed": 102}[params[0]["commitment"]],
        "blockHeight": 1,
        "epoch": 0,
    }
    async with RpcClient(node.url) as rpc:
        first, second = [await draft(rpc, [TRANSFER], PAYER, micro_lamports_per_unit=0) for _ in range(2)]
    assert first.signed_after_slot == 70
    assert first.message.recent_blockhash == second.message.recent_blockhash
    assert bytes(first.message) != bytes(second.message)
