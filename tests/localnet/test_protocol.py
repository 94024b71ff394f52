"""JSON-RPC 2.0 and Solana's bounds, as any client may lean on them."""

import json

from solders.hash import Hash
from solders.keypair import Keypair

from localnet.server import REQUEST_BYTES_MAX
from tests.localnet.support import Cluster


async def test_malformed_requests_get_the_standard_codes(cluster: Cluster) -> None:
    for body, code in (
        (b"{", -32700),
        (b"[]", -32600),
        (b"1", -32600),
        (b'{"jsonrpc":"2.0","id":1}', -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"getSlot"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"noSuchMethod"}', -32601),
        (b'{"jsonrpc":"2.0","id":1,"method":"getBalance"}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"getBalance","params":{}}', -32602),
    ):
        status, response = await cluster.post(body)
        assert (status, response["error"]["code"]) == (200, code), body


async def test_bad_params_are_refused_and_named(cluster: Cluster) -> None:
    key, signature = str(Keypair().pubkey()), str(Keypair().sign_message(b""))
    for method, params in (
        ("getBalance", ["no key"]),
        ("getBalance", [7]),
        ("getBalance", [key, "confirmed"]),
        ("getBalance", [key, {"commitment": "certain"}]),
        ("getBalance", [key, {"minContextSlot": -1}]),
        ("getBalance", ["1" * 10_000]),
        ("getAccountInfo", [key, {"encoding": "hex"}]),
        ("getAccountInfo", [key, {"dataSlice": {"offset": 1}}]),
        ("getMultipleAccounts", [[key] * 101]),
        ("getSignatureStatuses", [[signature] * 257]),
        ("getSignatureStatuses", [[key]]),
        ("getProgramAccounts", [key, {"filters": [{"dataSize": 1}] * 5}]),
        ("getProgramAccounts", [key, {"filters": [{"memcmp": {"offset": 0}}]}]),
        ("getSignaturesForAddress", [key, {"limit": 1001}]),
        ("getTransaction", [signature, {"commitment": "processed"}]),
        ("isBlockhashValid", ["short"]),
        ("requestAirdrop", [key, "many"]),
        ("simulateTransaction", ["", {"sigVerify": 1}]),
    ):
        error = await cluster.error(method, *params)
        assert error["code"] == -32602, (method, params, error)
        assert error["message"]


async def test_bounds_themselves_are_allowed(cluster: Cluster) -> None:
    key, signature = str(Keypair().pubkey()), str(Keypair().sign_message(b""))
    accounts = await cluster.result("getMultipleAccounts", [key] * 100)
    assert accounts["value"] == [None] * 100
    statuses = await cluster.result("getSignatureStatuses", [signature] * 256, {"searchTransactionHistory": True})
    assert statuses["value"] == [None] * 256


async def test_a_batch_answers_each_call_and_no_notification(cluster: Cluster) -> None:
    calls = [
        {"jsonrpc": "2.0", "id": "a", "method": "getHealth"},
        {"jsonrpc": "2.0", "method": "getHealth"},
        {"jsonrpc": "2.0", "id": 2, "method": "noSuchMethod"},
        {"jsonrpc": "2.0", "id": 3, "method": "getSlot", "params": [{"commitment": "processed"}]},
    ]
    _, responses = await cluster.post(json.dumps(calls).encode())
    assert [response["id"] for response in responses] == ["a", 2, 3]
    assert responses[0]["result"] == "ok"
    assert responses[1]["error"]["code"] == -32601
    assert responses[2]["result"] > 0
    assert await cluster.post(json.dumps(calls[1:2]).encode()) == (200, None)


async def test_an_oversized_body_is_refused_unread(cluster: Cluster) -> None:
    status, _ = await cluster.post(b" " * (REQUEST_BYTES_MAX + 1))
    assert status == 413


async def test_a_context_slot_not_reached_is_its_own_error(cluster: Cluster) -> None:
    slot = await cluster.result("getSlot", {"commitment": "processed"})
    error = await cluster.error(
        "getBalance", str(Keypair().pubkey()), {"commitment": "finalized", "minContextSlot": slot}
    )
    assert (error["code"], error["message"]) == (-32016, "Minimum context slot has not been reached")
    assert 0 < error["data"]["contextSlot"] < slot


async def test_contexts_carry_slot_and_version(cluster: Cluster) -> None:
    context = (await cluster.result("isBlockhashValid", str(Hash.new_unique())))["context"]
    assert context["slot"] > 0
    assert context["apiVersion"] == (await cluster.result("getVersion"))["solana-core"]
