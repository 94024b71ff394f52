"""Several nodes as one client: reads fail over, what is sent goes to all, and nodes of two clusters are never mixed."""

import asyncio
import base64
import struct
from types import SimpleNamespace

import pytest
import structlog
from aiohttp import web
from solders.pubkey import Pubkey

from ledger import layout
from ledger import nodes as nodes_module
from ledger.nodes import Defect, Nodes
from ledger.rpc import READ_COMMITMENT, RequestRefused, RpcClient
from settlement.batches import Standing
from settlement.errors import LedgerMisconfigured, LedgerUnavailable
from tests.ledger.panel import Panel, panel_of
from tests.ledger.scripted import FINALIZED_SLOT, LANE, PROGRAM, RECORD_SLOT, Refusal, transaction_json


def refuse(code: int, data: object = None) -> None:
    raise Refusal(code, data)


# Reading.


async def test_a_read_that_one_node_does_not_answer_is_asked_of_the_next(pair: Panel) -> None:
    pair.fails(0)
    assert (await pair.nodes.epoch_info("finalized")).absolute_slot > 0
    assert pair.calls(1) == ["getEpochInfo"]


@pytest.mark.parametrize("code", [-32005, -32014, -32016, -32603, -32601, -32010, -32600, -32602])
async def test_trouble_of_one_node_and_what_it_does_not_offer_are_asked_of_the_next(pair: Panel, code: int) -> None:
    pair.chains[0].node.answers["getEpochInfo"] = lambda _: refuse(code)
    assert (await pair.nodes.epoch_info("finalized")).absolute_slot > 0


async def test_a_request_that_a_node_understands_and_refuses_is_not_tried_on_others(pair: Panel) -> None:
    pair.chains[0].node.answers["simulateTransaction"] = lambda _: refuse(-32602)
    with pytest.raises(RequestRefused):
        await pair.nodes.simulate(pair.attempt.raw, READ_COMMITMENT)
    assert pair.calls(1) == []


async def test_a_node_that_failed_is_asked_last_for_a_while(pair: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.fails(0)
    for _ in range(3):
        await pair.nodes.epoch_info("finalized")
    assert pair.calls(0) == ["getEpochInfo"]
    pair.chains[0].node.body = None
    monkeypatch.setattr(nodes_module, "time", SimpleNamespace(monotonic=lambda: float("inf")))
    pair.forget_calls()
    await pair.nodes.epoch_info("finalized")
    assert pair.calls(0) == ["getEpochInfo"]


async def test_when_no_node_answers_each_is_named_with_its_reason(pair: Panel) -> None:
    pair.fails(0)
    pair.chains[1].node.body = lambda: web.Response(text="<html>")
    with pytest.raises(LedgerUnavailable, match=f"{pair.chains[0].node.url} .*503.*; {pair.chains[1].node.url} "):
        await pair.nodes.epoch_info("finalized")


async def test_a_transaction_that_one_node_does_not_know_is_asked_of_the_next(pair: Panel) -> None:
    pair.chains[1].transactions["a"] = transaction_json(RECORD_SLOT, Pubkey.default())
    assert await pair.nodes.transaction("a", "finalized") is not None
    for code in (-32011, -32015, -32601, -32602, -32600):
        pair.chains[0].node.answers["getTransaction"] = lambda _, code=code: refuse(code)
        assert await pair.nodes.transaction("a", "finalized") is not None


async def test_a_transaction_is_not_called_unknown_while_a_node_is_silent(pair: Panel) -> None:
    assert await pair.nodes.transaction("a", "finalized") is None
    pair.fails(1)
    with pytest.raises(LedgerUnavailable):
        await pair.nodes.transaction("a", "finalized")
    pair.chains[0].node.answers["getTransaction"] = lambda _: refuse(-32602)
    with pytest.raises(LedgerUnavailable):
        await pair.nodes.transaction("a", "finalized")


async def test_nodes_at_one_host_are_told_apart() -> None:
    async with Nodes.at(["http://127.0.0.1:1/secret", "http://127.0.0.1:1/nodes/1", "http://127.0.0.1:2/"]) as nodes:
        names = [node.name for node in nodes.nodes]
    assert names == [
        "http://127.0.0.1:1 (node 1 of 3)",
        "http://127.0.0.1:1 (node 2 of 3)",
        "http://127.0.0.1:2",
    ]


async def test_a_node_that_comes_and_goes_is_logged_once_each_time(pair: Panel) -> None:
    pair.fails(0)
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            await pair.nodes.on_one(lambda node: node.epoch_info("finalized"))
            await pair.ledger.broadcast(pair.attempt)
        pair.chains[0].node.body = None
        pair.nodes._failures.clear()  # pyright: ignore[reportPrivateUsage]
        for _ in range(3):
            await pair.nodes.epoch_info("finalized")
    changes = [(line["event"], line["node"]) for line in lines if line.get("defect") == Defect.UNREACHABLE]
    assert changes == [("node unfit", pair.chains[0].node.url), ("node fit again", pair.chains[0].node.url)]


def a_house(highest_batch: int) -> dict[str, object]:
    data = struct.pack("<BBHIQ", layout.Kind.HOUSE, 255, LANE, 2, highest_batch)
    return {
        "lamports": 7,
        "owner": str(PROGRAM),
        "executable": False,
        "data": [base64.b64encode(data).decode(), "base64"],
    }


async def test_the_highest_number_of_a_lane_is_the_highest_that_any_node_shows(three: Panel) -> None:
    shown = [(FINALIZED_SLOT - 50, a_house(4)), (FINALIZED_SLOT, a_house(9)), (FINALIZED_SLOT + 1, a_house(8))]
    for chain, (slot, house) in zip(three.chains, shown, strict=True):
        answer = {"context": {"slot": slot}, "value": house}
        chain.node.answers["getAccountInfo"] = lambda _, answer=answer: answer
        chain.node.answers["getMinimumBalanceForRentExemption"] = lambda _: 0
    assert (await three.ledger.house(LANE)).highest_batch == 9
    three.fails(1)
    assert (await three.ledger.house(LANE)).highest_batch == 8


# One cluster.


async def test_a_node_of_another_cluster_is_named_and_nothing_is_read(three: Panel) -> None:
    three.chains[1].genesis_hash = "another"
    urls = [chain.node.url for chain in three.chains]
    async with Nodes.at(urls) as nodes:
        with pytest.raises(
            LedgerMisconfigured, match=rf"^{urls[1]} \(genesis hash another\).*CROUPIER_FURTHER_RPC_URLS"
        ):
            await nodes.epoch_info("finalized")
        with pytest.raises(LedgerMisconfigured, match=urls[1]):
            await nodes.everywhere(lambda node: node.epoch_info("finalized"))


async def test_the_odd_one_is_the_one_that_differs_from_most_even_if_it_is_the_first(three: Panel) -> None:
    three.chains[0].genesis_hash = "another"
    async with Nodes.at([chain.node.url for chain in three.chains]) as nodes:
        with pytest.raises(LedgerMisconfigured, match=f"^{three.chains[0].node.url} "):
            await nodes.epoch_info("finalized")


async def test_of_two_nodes_the_further_one_is_the_odd_one(pair: Panel) -> None:
    pair.chains[1].genesis_hash = "another"
    async with Nodes.at([chain.node.url for chain in pair.chains]) as nodes:
        with pytest.raises(LedgerMisconfigured, match=f"^{pair.chains[1].node.url} "):
            await nodes.epoch_info("finalized")


async def test_a_node_that_was_silent_at_first_is_checked_before_it_is_believed(pair: Panel) -> None:
    async with Nodes.at([chain.node.url for chain in pair.chains]) as nodes:
        pair.fails(1)
        await nodes.epoch_info("finalized")
        pair.chains[1].node.body = None
        pair.chains[1].genesis_hash = "another"
        pair.fails(0)
        with pytest.raises(LedgerMisconfigured, match="another"):
            await nodes.epoch_info("finalized")
    assert "getEpochInfo" not in pair.calls(1)


async def test_a_node_that_does_not_tell_its_cluster_is_passed_over(pair: Panel) -> None:
    pair.chains[0].node.answers["getGenesisHash"] = lambda _: refuse(-32601)
    async with Nodes.at([chain.node.url for chain in pair.chains]) as nodes:
        await nodes.epoch_info("finalized")
    assert "getEpochInfo" not in pair.calls(0)


async def test_one_node_alone_is_not_asked_for_its_cluster() -> None:
    async with panel_of(1) as panel:
        await panel.nodes.epoch_info("finalized")
        assert panel.calls(0) == ["getEpochInfo"]


# Sending.


async def test_every_node_gets_the_same_bytes(three: Panel) -> None:
    await three.ledger.broadcast(three.attempt)
    for chain in three.chains:
        assert chain.node.calls == [
            ("sendTransaction", [three.attempt.raw, {"encoding": "base64", "skipPreflight": True, "maxRetries": 0}])
        ]


async def test_nodes_that_do_not_take_a_transaction_are_logged_and_hinder_nothing(three: Panel) -> None:
    three.fails(0)
    three.chains[1].node.answers["sendTransaction"] = lambda _: refuse(-32002, {"err": "BlockhashNotFound"})
    with structlog.testing.capture_logs() as lines:
        await three.ledger.broadcast(three.attempt)
    assert [line["node"] for line in lines if line["event"] == "transaction not taken"] == [
        chain.node.url for chain in three.chains[:2]
    ]
    assert three.calls(2) == ["sendTransaction"]


async def test_a_transaction_that_no_node_takes_is_unavailability(pair: Panel) -> None:
    pair.fails(0)
    pair.fails(1)
    with pytest.raises(LedgerUnavailable, match=r"503.*503"):
        await pair.ledger.broadcast(pair.attempt)


async def test_a_node_that_hangs_holds_up_neither_sending_nor_reading_of_all(
    three: Panel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes_module, "GRACE_SECONDS", 0.05)
    three.chains[0].node.hangs = True
    await three.ledger.broadcast(three.attempt)
    answers, silent = await three.nodes.everywhere(lambda node: node.epoch_info("finalized"))
    first, *others = three.nodes.nodes
    assert list(answers) == others
    assert "0.05 s" in str(silent[first])


def slow(node: RpcClient, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    call = node._call  # pyright: ignore[reportPrivateUsage]

    async def slowly(method: str, params: list[object], result_type: object) -> object:
        await asyncio.sleep(seconds)
        return await call(method, params, result_type)

    monkeypatch.setattr(node, "_call", slowly)


async def test_a_slow_node_is_waited_for_where_its_word_is_needed(pair: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes_module, "GRACE_SECONDS", 0.05)
    slow(pair.nodes.nodes[0], 0.2, monkeypatch)
    assert await pair.standing() is Standing.NONE_LIVE


async def test_a_node_that_hangs_since_the_start_holds_up_no_reading_of_all(
    three: Panel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes_module, "GRACE_SECONDS", 0.05)
    three.chains[2].node.hangs = True
    three.nodes._genesis_hashes.pop(three.nodes.nodes[2])  # pyright: ignore[reportPrivateUsage]
    async with asyncio.timeout(5):
        assert await three.standing() is Standing.NONE_LIVE


async def test_sending_does_not_wait_for_a_node_that_has_failed_of_late(
    pair: Panel, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.fails(0)
    await pair.nodes.epoch_info("finalized")
    pair.chains[0].node.body = None
    pair.chains[0].node.hangs = True
    monkeypatch.setattr(nodes_module, "GRACE_SECONDS", 60.0)
    async with asyncio.timeout(5):
        await pair.ledger.broadcast(pair.attempt)


async def test_a_node_that_answers_too_few_accounts_or_statuses_is_passed_over(pair: Panel) -> None:
    def seen(*values: object) -> object:
        return {"context": {"slot": FINALIZED_SLOT}, "value": values}

    for method in ("getMultipleAccounts", "getSignatureStatuses"):
        pair.chains[0].node.answers[method] = lambda _: seen()
        pair.chains[1].node.answers[method] = lambda _: seen(None)
    assert await pair.nodes.accounts([Pubkey.default()], READ_COMMITMENT) == [None]
    pair.nodes._failures.clear()  # pyright: ignore[reportPrivateUsage]
    assert [seen.value for seen in await pair.nodes.signature_statuses(["a"])] == [None]


async def test_only_one_node_simulates_what_is_sent_with_a_preflight(pair: Panel) -> None:
    pair.fails(0)
    await pair.nodes.send(pair.attempt.raw, preflight=READ_COMMITMENT)
    pair.chains[0].node.body = None
    await pair.nodes.send(pair.attempt.raw, preflight=READ_COMMITMENT)
    skipped = [[params[1]["skipPreflight"] for params in chain.node.called("sendTransaction")] for chain in pair.chains]
    assert skipped == [[False, True, True], [False, False]]
