"""What happens to requests by injected faults, how long, to which of them, and that none can be made unless asked for."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from solders.compute_budget import set_compute_unit_price
from solders.keypair import Keypair
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from localnet import faults
from localnet.extension import SKIPPED_SLOTS_MAX
from localnet.fault_kinds import BEHIND_BLOCKS_MAX, FAULT_COUNT_MAX, FAULT_SECONDS_MAX
from localnet.faults import FAULTS_MAX
from localnet.server import SHUTDOWN_SECONDS_MAX
from tests.localnet.support import SOL, Cluster, connect, pay, running_cluster, sign, until, wire

SLOT_SECONDS = 0.02
NO_ANSWER = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)
EXTENSION = {
    "croupierInjectFault": [{"kind": "drop"}],
    "croupierClearFaults": [],
    "croupierFaults": [],
    "croupierFork": [{"depth": 1}],
    "croupierSkipSlots": [{"slots": 1}],
}
Nodes = tuple[Cluster, Cluster]


async def payment(cluster: Cluster) -> VersionedTransaction:
    return pay(await cluster.funded(), Keypair().pubkey(), SOL, await cluster.blockhash())


async def landed(cluster: Cluster, transaction: VersionedTransaction) -> bool:
    return await cluster.status(transaction.signatures[0]) is not None


async def test_faults_cannot_be_made_unless_asked_for(cluster: Cluster, nodes: Nodes) -> None:
    for method, params in EXTENSION.items():
        assert (await cluster.error(method, *params))["code"] == -32601, method
        await nodes[1].result(method, *params)


async def test_every_node_shows_the_same_chain(nodes: Nodes) -> None:
    first, second = nodes
    transaction = await payment(first)
    await second.land(transaction)
    assert await landed(first, transaction)
    assert await first.result("getGenesisHash") == await second.result("getGenesisHash")
    async with connect(first.url + "/nodes/4") as beyond:
        assert (await beyond.post(b"{}"))[0] == 404


async def test_a_dropped_transaction_is_acknowledged_and_never_seen(nodes: Nodes) -> None:
    first, second = nodes
    transaction = await payment(first)
    await first.inject("drop", node=0, count=1)
    assert await first.send(transaction) == transaction.signatures[0]
    assert not await landed(first, transaction)
    assert await first.applied("drop") == 1
    await second.send(transaction)
    assert await landed(first, transaction)


async def test_cheaper_transactions_are_dropped_silently(nodes: Nodes) -> None:
    first, _ = nodes
    payer = await first.funded()
    move = transfer(TransferParams(from_pubkey=payer.pubkey(), to_pubkey=Keypair().pubkey(), lamports=SOL))
    blockhash = await first.blockhash()
    cheap, dear = (sign([set_compute_unit_price(price), move], [payer], blockhash) for price in (999, 1000))
    before = await first.applied("min_priority_fee")
    await first.inject("min_priority_fee", micro_lamports=1000)
    await first.send(cheap)
    await first.send(dear)
    assert [await landed(first, transaction) for transaction in (cheap, dear)] == [False, True]
    assert await first.applied("min_priority_fee") == before + 1


@pytest.mark.parametrize(
    ("fault", "is_processed"),
    [
        ({"kind": "refuse"}, False),
        ({"kind": "http_status", "status": 503}, False),
        ({"kind": "rpc_error", "code": -32005, "message": "behind", "data": {"numSlotsBehind": 9}}, False),
        ({"kind": "bad_body"}, True),
        ({"kind": "reset_after"}, True),
    ],
    ids=["refuse", "http_status", "rpc_error", "bad_body", "reset_after"],
)
async def test_a_send_is_disturbed_once_and_processed_or_not(
    nodes: Nodes, fault: dict[str, Any], is_processed: bool
) -> None:
    first, second = nodes
    kind = fault["kind"]
    transaction = await payment(first)
    await first.result("croupierInjectFault", {**fault, "count": 1, "node": 1, "methods": ["sendTransaction"]})
    before = await first.applied(kind)
    assert await second.slot(), "other methods are left alone"
    call = {"jsonrpc": "2.0", "id": 1, "method": "sendTransaction"}
    body = json.dumps({**call, "params": [wire(transaction), {"encoding": "base64", "skipPreflight": True}]}).encode()
    if kind in ("refuse", "reset_after"):
        with pytest.raises(NO_ANSWER):
            await second.post(body)
    elif kind == "http_status":
        assert (await second.post(body))[0] == 503
    elif kind == "rpc_error":
        _, answer = await second.post(body)
        assert answer["error"] == {"code": -32005, "message": "behind", "data": {"numSlotsBehind": 9}}
    else:
        with pytest.raises(ValueError, match=r"utf-8|Expecting"):
            await second.post(body)
    assert await landed(first, transaction) is is_processed
    assert await first.applied(kind) == before + 1
    await second.send(transaction, skipPreflight=True)
    assert await landed(first, transaction)


@pytest.mark.parametrize(("kind", "is_processed"), [("hang_before", False), ("hang_after", True)])
async def test_a_request_hangs_until_the_faults_are_cleared(nodes: Nodes, kind: str, is_processed: bool) -> None:
    first, second = nodes
    transaction = await payment(first)
    await first.inject(kind, node=1, methods=["sendTransaction"])
    before = await first.applied(kind)
    sending = asyncio.create_task(second.send(transaction))

    async def hangs() -> bool:
        return await first.applied(kind) == before + 1

    await until(hangs)
    assert await landed(first, transaction) is is_processed
    assert not sending.done()
    assert await first.clear_faults() == 1
    with pytest.raises(NO_ANSWER):
        await sending
    assert await landed(first, transaction) is is_processed


async def test_requests_that_hang_are_bounded_in_number_and_time(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = nodes
    monkeypatch.setattr(faults, "HANGING_MAX", 1)
    await first.inject("hang_before", node=1)
    before = await first.applied("hang_before")
    hanging = asyncio.create_task(second.slot())

    async def hangs() -> bool:
        return await first.applied("hang_before") == before + 1

    await until(hangs)
    with pytest.raises(NO_ANSWER):
        await asyncio.wait_for(second.slot(), 5)
    assert not hanging.done()
    await first.clear_faults()
    await asyncio.gather(hanging, return_exceptions=True)

    monkeypatch.setattr(faults, "HANG_SECONDS_MAX", 0.01)
    await first.inject("hang_after", node=1)
    with pytest.raises(NO_ANSWER):
        await asyncio.wait_for(second.slot(), 5)


async def test_a_server_that_stops_does_not_wait_for_requests_that_hang(tmp_path: Path) -> None:
    async with running_cluster(tmp_path / "ledger.db", SLOT_SECONDS, with_faults=True) as (cluster, _):
        await cluster.inject("hang_before", methods=["getSlot"])
        hanging = asyncio.create_task(cluster.slot())

        async def hangs() -> bool:
            return await cluster.applied("hang_before") == 1

        await until(hangs)
        stopping = time.monotonic()
    assert time.monotonic() - stopping < SHUTDOWN_SECONDS_MAX
    assert isinstance((await asyncio.gather(hanging, return_exceptions=True))[0], NO_ANSWER)


async def test_a_node_that_denies_every_transaction_answers_null(nodes: Nodes) -> None:
    first, second = nodes
    transaction = await payment(first)
    signature = transaction.signatures[0]
    await first.land(transaction)
    await first.inject("null_statuses", node=1)
    assert await second.status(signature) is None
    assert await first.status(signature) is not None
    await first.wait_for(signature, "finalized")
    assert await second.status(signature, search=True) is None
    await first.clear_faults()
    assert await second.status(signature) is not None


async def test_a_node_without_history_refuses_searches_and_knows_the_last_blocks_only(nodes: Nodes) -> None:
    first, second = nodes
    transaction = await payment(first)
    signature, payer = transaction.signatures[0], transaction.message.account_keys[0]
    status = await first.land(transaction)
    await first.inject("no_history", node=1, blocks=20)
    for method, params in (
        ("getSignatureStatuses", [[str(signature)], {"searchTransactionHistory": True}]),
        ("getTransaction", [str(signature)]),
        ("getSignaturesForAddress", [str(payer)]),
    ):
        error = await second.error(method, *params)
        assert error == {"code": -32011, "message": "Transaction history is not available from this node"}, method
        await first.result(method, *params)
    assert await second.status(signature) is not None
    await first.wait_for(signature, "finalized")
    assert await second.status(signature) is None
    assert await second.result("getFirstAvailableBlock") > status["slot"]
    assert await first.result("getFirstAvailableBlock") == 0


async def test_a_fault_ends_by_time_and_by_count_and_says_what_is_left(nodes: Nodes) -> None:
    first, second = nodes
    identifier = await first.inject("rpc_error", node=1, count=2, seconds=60, code=-32603, methods=["getSlot"])
    (active,) = (await first.result("croupierFaults"))["active"]
    assert active.pop("secondsLeft") <= 60
    assert active == {
        "id": identifier,
        "kind": "rpc_error",
        "node": 1,
        "seconds": 60,
        "count": 2,
        "countLeft": 2,
        "methods": ["getSlot"],
        "code": -32603,
        "message": "injected by croupierInjectFault",
    }
    for _ in range(2):
        assert (await second.error("getSlot"))["code"] == -32603
    assert await second.slot()
    assert (await first.result("croupierFaults"))["active"] == []

    await first.inject("rpc_error", node=1, seconds=0.05, code=-32603, methods=["getSlot"])
    assert (await second.error("getSlot"))["code"] == -32603

    async def over() -> bool:
        return "result" in await second.call("getSlot")

    await until(over)


async def test_a_batch_is_disturbed_as_a_whole_by_any_of_its_calls(nodes: Nodes) -> None:
    first, _ = nodes
    calls = [{"jsonrpc": "2.0", "id": 1, "method": name} for name in ("getHealth", "getSlot")]
    await first.inject("http_status", status=429, methods=["getSlot"])
    before = await first.applied("http_status")
    assert (await first.post(json.dumps(calls).encode()))[0] == 429
    assert (await first.post(json.dumps(calls[:1]).encode()))[0] == 200
    assert await first.applied("http_status") == before + 1


async def test_the_extension_is_never_hit_itself(nodes: Nodes) -> None:
    first, _ = nodes
    for fault in (
        {"kind": "refuse"},
        {"kind": "http_status", "status": 500},
        {"kind": "hang_before"},
        {"kind": "bad_body"},
    ):
        await first.result("croupierInjectFault", fault)
    assert len((await first.result("croupierFaults"))["active"]) == 4
    calls = [{"jsonrpc": "2.0", "id": 1, "method": name} for name in ("croupierFaults", "getSlot")]
    status, _ = await first.post(json.dumps(calls).encode())
    assert status == 200, "nor a batch that it is part of"
    assert await first.clear_faults() == 4
    assert await first.slot()


@pytest.mark.parametrize(
    ("fault", "member"),
    [
        ({}, "kind"),
        ({"kind": "flood"}, "kind"),
        ({"kind": "drop", "node": 4}, "node"),
        ({"kind": "drop", "node": "1"}, "node"),
        ({"kind": "drop", "count": 0}, "count"),
        ({"kind": "drop", "count": FAULT_COUNT_MAX + 1}, "count"),
        ({"kind": "drop", "seconds": 0}, "seconds"),
        ({"kind": "drop", "seconds": FAULT_SECONDS_MAX + 1}, "seconds"),
        ({"kind": "drop", "methods": []}, "methods"),
        ({"kind": "drop", "methods": ["getSlot"]}, "methods"),
        ({"kind": "refuse", "methods": ["noSuchMethod"]}, "methods"),
        ({"kind": "refuse", "methods": ["croupierFaults"]}, "methods"),
        ({"kind": "stuck", "methods": ["getSlot"]}, "methods"),
        ({"kind": "drop", "slots": 1}, "slots"),
        ({"kind": "http_status"}, "status"),
        ({"kind": "http_status", "status": 200}, "status"),
        ({"kind": "rpc_error", "code": 1}, "code"),
        ({"kind": "rpc_error", "code": -1, "message": 1}, "message"),
        ({"kind": "rpc_error", "code": -1, "data": []}, "data"),
        ({"kind": "behind", "slots": 0}, "slots"),
        ({"kind": "behind", "slots": BEHIND_BLOCKS_MAX + 1}, "slots"),
        ({"kind": "min_priority_fee"}, "micro_lamports"),
        ({"kind": "no_history", "blocks": -1}, "blocks"),
    ],
)
async def test_a_bad_fault_is_refused_by_the_name_of_its_member(
    nodes: Nodes, fault: dict[str, Any], member: str
) -> None:
    error = await nodes[0].error("croupierInjectFault", fault)
    assert error["code"] == -32602
    assert error["message"].startswith(f"Invalid params: {member}: "), error


async def test_other_bad_parameters_of_the_extension_are_named(nodes: Nodes) -> None:
    calls: list[tuple[str, list[Any], str]] = [
        ("croupierInjectFault", [], "params"),
        ("croupierInjectFault", ["drop"], "argument 1"),
        ("croupierFork", [{}], "depth"),
        ("croupierFork", [{"depth": 0}], "depth"),
        ("croupierFork", [{"depth": 1, "node": 1}], "node"),
        ("croupierSkipSlots", [{"slots": True}], "slots"),
        ("croupierSkipSlots", [{"slots": SKIPPED_SLOTS_MAX + 1}], "slots"),
    ]
    for method, params, name in calls:
        error = await nodes[0].error(method, *params)
        assert (error["code"], name in error["message"]) == (-32602, True), error


async def test_active_faults_are_bounded(nodes: Nodes) -> None:
    first, _ = nodes
    for _ in range(FAULTS_MAX):
        await first.inject("drop", node=3)
    error = await first.error("croupierInjectFault", {"kind": "drop"})
    assert (error["code"], f"at most {FAULTS_MAX}" in error["message"]) == (-32602, True)
    assert await first.clear_faults() == FAULTS_MAX
