"""What a bad node does to its clients, and what the adapter makes of it: by type and code, never by text."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web
from solders.pubkey import Pubkey

from ledger import layout
from ledger import rpc as rpc_module
from ledger.failures import Failure, Fault
from ledger.program_errors import ProgramError
from ledger.rpc import RequestRefused, RpcClient, TransactionError, display_name
from ledger.transactions import MAX_COMPUTE_UNITS, MIN_COMPUTE_UNITS, compute_unit_limit
from settlement.errors import (
    LedgerMisconfigured,
    LedgerUnavailable,
    SettlementRefused,
)
from tests.ledger.scripted import (
    FINALIZED_SLOT,
    LANE,
    NUMBER,
    PROGRAM,
    UNITS,
    Refusal,
    ScriptedChain,
    ScriptedNode,
    a_proof,
    a_statement,
    serving,
    transaction_json,
)


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedNode]:
    async with serving(ScriptedNode()) as node:
        yield node


@pytest.fixture
async def client(scripted: ScriptedNode) -> AsyncIterator[RpcClient]:
    async with RpcClient(scripted.url) as client:
        yield client


def refuse(code: int, data: object = None) -> Callable[[list[object]], object]:
    def answer(_: list[object]) -> object:
        raise Refusal(code, data)

    return answer


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html>Bad gateway</html>",
        "{",
        "[]",
        '{"jsonrpc": "2.0", "id": "1"}',
        '{"jsonrpc": "2.0", "id": "1", "result": null}',
        '{"jsonrpc": "2.0", "id": "1", "result": {"absoluteSlot": "many", "blockHeight": 1}}',
        '{"jsonrpc": "2.0", "id": null, "error": {"code": -32700, "message": "Parse error"}}',
    ],
)
async def test_an_answer_that_cannot_be_read_tells_nothing(
    scripted: ScriptedNode, client: RpcClient, body: str
) -> None:
    scripted.body = lambda: web.Response(text=body)
    with pytest.raises(LedgerUnavailable, match=scripted.url):
        await client.epoch_info("finalized")


@pytest.mark.parametrize("status", [301, 401, 403, 404, 413, 429, 500, 502, 503, 504])
async def test_a_node_that_answers_with_an_http_error_is_unavailable(
    scripted: ScriptedNode, client: RpcClient, status: int
) -> None:
    scripted.body = lambda: web.Response(status=status)
    with pytest.raises(LedgerUnavailable, match=f"HTTP {status}"):
        await client.epoch_info("finalized")
    assert len(scripted.calls) == 1, "a request is never repeated behind its caller's back"


@pytest.mark.parametrize("code", [-32005, -32004, -32014, -32016, -32603, -1, 429])
async def test_trouble_of_the_node_and_unknown_codes_are_worth_another_try(
    scripted: ScriptedNode, client: RpcClient, code: int
) -> None:
    scripted.answers["getEpochInfo"] = refuse(code)
    with pytest.raises(LedgerUnavailable, match=str(code)):
        await client.epoch_info("finalized")


@pytest.mark.parametrize("code", [-32002, -32003, -32006, -32013, -32015, -32600, -32602])
async def test_a_plain_read_cannot_be_refused(scripted: ScriptedNode, client: RpcClient, code: int) -> None:
    for method in ("getEpochInfo", "getLatestBlockhash", "getAccountInfo", "getMultipleAccounts"):
        scripted.answers[method] = refuse(code)
    scripted.answers["getSignatureStatuses"] = refuse(code)
    for read in (
        client.epoch_info("finalized"),
        client.latest_blockhash("confirmed"),
        client.account(Pubkey.default(), "confirmed"),
        client.accounts([Pubkey.default()], "confirmed"),
        client.signature_statuses(["a"]),
    ):
        with pytest.raises(LedgerUnavailable, match=str(code)):
            await read


@pytest.mark.parametrize("code", [-32002, -32005])
async def test_an_error_without_data_is_still_only_an_error(
    scripted: ScriptedNode, client: RpcClient, code: int
) -> None:
    scripted.answers["sendTransaction"] = refuse(code, data=None)
    with pytest.raises((RequestRefused, LedgerUnavailable)):
        await client.send("AAAA")


async def test_a_method_that_the_node_does_not_offer_is_for_the_operator(
    scripted: ScriptedNode, client: RpcClient
) -> None:
    scripted.answers["getProgramAccounts"] = refuse(-32010)
    with pytest.raises(LedgerMisconfigured, match="CROUPIER_RPC_URL"):
        await client.program_accounts(Pubkey.default(), size=1, memcmp={}, commitment="finalized")


async def test_a_node_that_stays_silent_is_given_up(
    scripted: ScriptedNode, client: RpcClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc_module, "REQUEST_SECONDS", 0.05)
    scripted.hangs = True
    with pytest.raises(LedgerUnavailable, match=r"within 0\.05 s"):
        await client.epoch_info("finalized")


async def test_a_connection_that_breaks_is_not_tried_again_behind_the_callers_back() -> None:
    connections: list[asyncio.StreamWriter] = []

    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        writer.transport.abort()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server, RpcClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as client:
        with pytest.raises(LedgerUnavailable):
            await client.send("AAAA")
    assert len(connections) == 1


async def test_a_native_panic_does_not_tear_down_the_worker(client: RpcClient, monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        """As pyo3's, which is no `Exception`."""

    def panic(*_: object, **__: object) -> None:
        raise PanicException("called `Option::unwrap()` on a `None` value")

    monkeypatch.setattr("aiohttp.ClientSession.post", panic)
    with pytest.raises(LedgerUnavailable):
        await client.epoch_info("finalized")


async def test_nothing_listening_is_unavailable_and_named() -> None:
    async with RpcClient("http://127.0.0.1:1") as client:
        with pytest.raises(LedgerUnavailable, match=r"http://127\.0\.0\.1:1 gave no answer"):
            await client.genesis_hash()


@pytest.mark.parametrize("answer", [None, b"", b"no HTTP\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"])
async def test_no_failure_of_a_connection_shows_a_providers_key(answer: bytes | None) -> None:
    async def breaks_off(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer or b"")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(breaks_off, "127.0.0.1", 0)
    async with server:
        port = 1 if answer is None else server.sockets[0].getsockname()[1]
        async with RpcClient(f"http://user:secret@127.0.0.1:{port}/secret?api-key=secret") as client:
            with pytest.raises(LedgerUnavailable, match="gave no answer") as failed:
                await client.genesis_hash()
    assert "secret" not in str(failed.value)
    assert "HTTP " not in str(failed.value)
    assert failed.value.__suppress_context__


@pytest.mark.parametrize(
    ("environment", "proxied"),
    [
        ({}, False),
        ({"HTTP_PROXY": "{proxy}"}, True),
        ({"ALL_PROXY": "{proxy}"}, True),
        ({"HTTPS_PROXY": "{proxy}"}, False),
        ({"HTTP_PROXY": "{proxy}", "NO_PROXY": "node.invalid"}, False),
    ],
)
async def test_the_environments_proxy_is_asked_for_a_node(
    scripted: ScriptedNode, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], *, proxied: bool
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(proxy=scripted.url.removeprefix("http://")))
    async with RpcClient("http://node.invalid") as client:
        with pytest.raises(LedgerUnavailable) as failed:
            await client.epoch_info("finalized")
    # What serves here is no proxy, so it knows no such address; the node itself is nowhere.
    assert ("HTTP 404" in str(failed.value)) is proxied


def test_a_providers_key_is_never_shown() -> None:
    assert display_name("https://user:secret@rpc.example.com:8443/secret?api-key=secret#secret") == (
        "https://rpc.example.com:8443"
    )


async def test_answers_of_the_wrong_length_are_not_paired_up(scripted: ScriptedNode, client: RpcClient) -> None:
    scripted.answers["getSignatureStatuses"] = lambda _: {"context": {"slot": 1}, "value": []}
    with pytest.raises(LedgerUnavailable):
        await client.signature_statuses(["a"])


async def test_a_history_that_a_node_does_not_keep_is_no_transaction(scripted: ScriptedNode, client: RpcClient) -> None:
    scripted.answers["getTransaction"] = refuse(-32011)
    assert await client.transaction("a", "finalized") is None


BLOCKHASH = {"blockhash": "1" * 32, "lastValidBlockHeight": 1}
ACCOUNT = {"lamports": 1, "owner": "1" * 32, "data": ["", "base64"], "executable": False}


@pytest.mark.parametrize(
    ("method", "value"),
    [
        ("getLatestBlockhash", BLOCKHASH | {"blockhash": "no hash"}),
        ("getLatestBlockhash", BLOCKHASH | {"blockhash": ""}),
        ("getLatestBlockhash", BLOCKHASH | {"lastValidBlockHeight": -1}),
        ("getAccountInfo", ACCOUNT | {"lamports": -1}),
        ("getAccountInfo", ACCOUNT | {"lamports": 2**64}),
        ("getAccountInfo", ACCOUNT | {"owner": "nobody"}),
        ("getAccountInfo", ACCOUNT | {"data": ["?", "base64"]}),
    ],
)
async def test_a_value_that_cannot_be_is_an_answer_that_cannot_be_read(
    scripted: ScriptedNode, client: RpcClient, method: str, value: object
) -> None:
    scripted.answers[method] = lambda _: {"context": {"slot": 1}, "value": value}
    asked = client.latest_blockhash("confirmed") if method == "getLatestBlockhash" else None
    with pytest.raises(LedgerUnavailable, match=f"{method} that cannot be read"):
        await (asked or client.account(Pubkey.default(), "confirmed"))


@pytest.mark.parametrize("answer", [-1, 2**64, "many", None])
async def test_a_number_that_cannot_be_is_an_answer_that_cannot_be_read(
    scripted: ScriptedNode, client: RpcClient, answer: object
) -> None:
    scripted.answers["getMinimumBalanceForRentExemption"] = lambda _: answer
    with pytest.raises(LedgerUnavailable, match="cannot be read"):
        await client.rent_minimum(1)


async def test_a_transaction_whose_parts_do_not_fit_together_cannot_be_read(
    scripted: ScriptedNode, client: RpcClient
) -> None:
    honest = transaction_json(7, Pubkey.default())
    scripted.answers["getTransaction"] = lambda _: honest
    assert await client.transaction("a", "finalized")
    honest["transaction"]["message"]["instructions"][0]["programIdIndex"] = 2
    with pytest.raises(LedgerUnavailable, match="cannot be read"):
        await client.transaction("a", "finalized")
    honest = transaction_json(7, Pubkey.default())
    honest["meta"]["preBalances"].pop()
    with pytest.raises(LedgerUnavailable, match="cannot be read"):
        await client.transaction("a", "finalized")


async def test_an_account_of_another_release_is_named_with_the_remedy(
    scripted: ScriptedNode, client: RpcClient
) -> None:
    chain = ScriptedChain(scripted)
    reader = chain.ledger(client)
    short = {"lamports": 1, "owner": str(PROGRAM), "data": ["AwE=", "base64"], "executable": True}
    scripted.answers |= {
        "getAccountInfo": lambda _: {"context": {"slot": 1}, "value": short},
        "getMultipleAccounts": lambda params: {"context": {"slot": 1}, "value": [short] * len(params[0])},
        "getProgramAccounts": lambda _: [{"pubkey": "1" * 32, "account": short}],
        "getMinimumBalanceForRentExemption": lambda _: 0,
    }
    player = str(Pubkey.new_unique())
    for address, read in (
        (layout.house_address(PROGRAM, LANE), reader.house(LANE)),
        (layout.vault_address(PROGRAM, LANE, Pubkey.from_string(player)), reader.vaults(LANE, [player])),
        (layout.batch_address(PROGRAM, LANE, NUMBER), reader.batch_record(LANE, NUMBER)),
        (Pubkey.default(), reader.batch_records(LANE)),
        (layout.config_address(PROGRAM), reader.check()),
    ):
        with pytest.raises(LedgerMisconfigured, match=f"account {address} .*{scripted.url}.*CROUPIER_PROGRAM_ID"):
            await read


# Sending and signing against such nodes.


async def test_sending_uses_the_bytes_as_they_are_and_nobodys_retries(
    scripted: ScriptedNode, client: RpcClient
) -> None:
    chain, statement = ScriptedChain(scripted), a_statement()
    attempt = await chain.ledger(client).sign(statement, a_proof(statement), 1)
    assert scripted.called("sendTransaction") == [], "signing sends nothing"
    await chain.ledger(client).broadcast(attempt)
    assert scripted.called("sendTransaction") == [
        [attempt.raw, {"encoding": "base64", "skipPreflight": True, "maxRetries": 0}]
    ]


@pytest.mark.parametrize("data", [None, {"err": "AlreadyProcessed"}, {"err": "BlockhashNotFound"}])
async def test_a_refusal_to_take_a_broadcast_decides_nothing(
    scripted: ScriptedNode, client: RpcClient, data: object
) -> None:
    chain, statement = ScriptedChain(scripted), a_statement()
    attempt = await chain.ledger(client).sign(statement, a_proof(statement), 1)
    scripted.answers["sendTransaction"] = refuse(-32002, data)
    await chain.ledger(client).broadcast(attempt)


async def test_the_limit_signed_is_the_simulated_use_and_a_fifth(scripted: ScriptedNode, client: RpcClient) -> None:
    assert compute_unit_limit(UNITS) == UNITS * 12 // 10
    assert compute_unit_limit(MAX_COMPUTE_UNITS) == MAX_COMPUTE_UNITS
    assert compute_unit_limit(0) == MIN_COMPUTE_UNITS
    chain, statement = ScriptedChain(scripted), a_statement()
    scripted.answers["simulateTransaction"] = lambda _: {"context": {"slot": FINALIZED_SLOT}, "value": {"err": None}}
    with pytest.raises(LedgerUnavailable, match="compute units"):
        await chain.ledger(client).sign(statement, a_proof(statement), 1)


async def test_a_simulation_is_over_the_blockhash_that_will_be_signed(
    scripted: ScriptedNode, client: RpcClient
) -> None:
    chain, statement = ScriptedChain(scripted), a_statement()
    await chain.ledger(client).sign(statement, a_proof(statement), 1)
    assert scripted.called("getLatestBlockhash") == [[{"commitment": "confirmed"}]]
    [[_, config]] = scripted.called("simulateTransaction")
    assert config["replaceRecentBlockhash"] is False
    assert config["commitment"] == "confirmed"


@pytest.mark.parametrize(
    ("err", "raised"),
    [
        ("BlockhashNotFound", LedgerUnavailable),
        ("AlreadyProcessed", LedgerUnavailable),
        ("AccountNotFound", LedgerMisconfigured),
        ("InsufficientFundsForFee", LedgerMisconfigured),
        ({"InsufficientFundsForRent": {"account_index": 0}}, LedgerMisconfigured),
        ({"InsufficientFundsForRent": {"account_index": 1}}, SettlementRefused),
        ({"InstructionError": [2, {"Custom": 1}]}, LedgerMisconfigured),
        ({"InstructionError": [2, {"Custom": int(ProgramError.PAYER_UNCOVERED)}]}, LedgerMisconfigured),
        ({"InstructionError": [2, "ComputationalBudgetExceeded"]}, SettlementRefused),
        ("SomethingNew", SettlementRefused),
    ],
)
async def test_a_failed_simulation_signs_nothing_and_says_who_can_mend_it(
    scripted: ScriptedNode, client: RpcClient, err: TransactionError, raised: type[Exception]
) -> None:
    chain, statement = ScriptedChain(scripted), a_statement()
    scripted.answers["simulateTransaction"] = lambda _: {"context": {"slot": 1}, "value": {"err": err, "logs": []}}
    with pytest.raises(raised):
        await chain.ledger(client).sign(statement, a_proof(statement), 1)


@pytest.mark.parametrize(
    ("code", "data", "raised"),
    [
        (-32002, {"err": "BlockhashNotFound"}, LedgerUnavailable),
        (-32002, {"err": "InsufficientFundsForFee"}, LedgerMisconfigured),
        (-32002, {"err": {"InstructionError": [2, {"Custom": int(ProgramError.PROOF_REJECTED)}]}}, SettlementRefused),
        (-32002, None, SettlementRefused),
        (-32003, None, SettlementRefused),
        (-32602, None, SettlementRefused),
        (-32600, None, LedgerUnavailable),
        (-32015, None, LedgerUnavailable),
        (-32005, None, LedgerUnavailable),
        (-32603, None, LedgerUnavailable),
    ],
)
async def test_a_simulation_that_a_node_refuses_is_read_by_its_code_and_data(
    scripted: ScriptedNode, client: RpcClient, code: int, data: object, raised: type[Exception]
) -> None:
    chain, statement = ScriptedChain(scripted), a_statement()
    scripted.answers["simulateTransaction"] = refuse(code, data)
    with pytest.raises(raised):
        await chain.ledger(client).sign(statement, a_proof(statement), 1)


def test_a_custom_code_of_another_programs_instruction_is_not_read_as_ours() -> None:
    code = int(ProgramError.VAULT_UNCOVERED)
    ours = Failure.of({"InstructionError": [2, {"Custom": code}]}, [2])
    theirs = Failure.of({"InstructionError": [0, {"Custom": code}]}, [2])
    assert (ours.program_error, ours.position) == (ProgramError.VAULT_UNCOVERED, 0)
    assert (theirs.program_error, theirs.fault) == (None, Fault.SETTLEMENT)
