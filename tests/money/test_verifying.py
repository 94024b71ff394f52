"""A receipt is held against the chain alone, and whatever is wrong with it is said."""

import base64
import json
import struct
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from ledger import layout
from operations.verifying import NoReceipt, read_receipt_file, verify
from settings import Settings
from settlement.batches import Landing, statement_for
from settlement.bets import RejectionReason
from settlement.receipts import Receipt, inclusion_of
from tests.ledger.scripted import (
    LANE,
    NUMBER,
    PROGRAM,
    RECORD_SLOT,
    ScriptedChain,
    ScriptedNode,
    serving,
    transaction_json,
)
from tests.ledger.support import bets_with, new_players

PLAYERS = new_players(2)
BETS = bets_with(PLAYERS, [1_000, -3_000])
STATEMENT = statement_for(LANE, NUMBER, BETS, {PLAYERS[0]: 1, PLAYERS[1]: 2})
RECEIPT = Receipt(
    bet_id=BETS[1].bet_id,
    status="settled",
    bet=BETS[1],
    batch_id="settlement-7-x",
    lane=LANE,
    number=NUMBER,
    landing=Landing(signature="s", slot=RECORD_SLOT, compute_units=None, fee_lamports=None),
    bets_root=STATEMENT.bets_root,
    inclusion=inclusion_of(1, BETS, STATEMENT),
)


@pytest.fixture
async def chain() -> AsyncGenerator[ScriptedChain]:
    async with serving(ScriptedNode()) as node:
        chain = ScriptedChain(node)
        chain.has_record(STATEMENT.bets_root)
        config = struct.pack("<BB32s", layout.Kind.CONFIG, 255, bytes(chain.authority.pubkey()))
        accounts = [(b"", True), (config, False)]
        node.answers["getMultipleAccounts"] = lambda _: {
            "context": {"slot": 1},
            "value": [
                {
                    "lamports": 1,
                    "owner": str(PROGRAM),
                    "executable": executable,
                    "data": [base64.b64encode(data).decode(), "base64"],
                }
                for data, executable in accounts
            ],
        }
        yield chain


def settings_for(chain: ScriptedChain) -> Settings:
    return Settings(rpc_url=chain.node.url, program_id=str(PROGRAM))  # pyright: ignore[reportArgumentType]


async def test_an_honest_receipt_holds_and_only_the_finalized_chain_is_asked(chain: ScriptedChain) -> None:
    assert (await verify(settings_for(chain), RECEIPT)).holds
    assert {params[1]["commitment"] for params in chain.node.called("getAccountInfo")} == {"finalized"}


async def test_a_receipt_of_a_batch_that_the_chain_does_not_have_does_not_hold(chain: ScriptedChain) -> None:
    chain.roots = {"confirmed": STATEMENT.bets_root, "finalized": None}
    assert (await verify(settings_for(chain), RECEIPT)).reasons == (f"the chain has no batch {NUMBER} of lane {LANE}",)


async def test_what_the_chain_cannot_be_asked_about_is_said(chain: ScriptedChain) -> None:
    batch, slot, transaction = (await verify(settings_for(chain), RECEIPT)).unchecked
    assert "batch_id" in batch
    assert "slot 1 of the batch" in slot
    assert "the node does not know" in transaction
    chain.transactions["s"] = settling()
    verification = await verify(settings_for(chain), RECEIPT)
    assert (verification.holds, verification.unchecked) == (True, (batch, slot))


@pytest.mark.parametrize("wrong", ["err", "slot", "house"])
async def test_a_receipt_that_names_another_transaction_does_not_hold(chain: ScriptedChain, wrong: str) -> None:
    chain.transactions["s"] = settling()
    match wrong:
        case "err":
            chain.transactions["s"]["meta"]["err"] = "AccountNotFound"
        case "slot":
            chain.transactions["s"]["slot"] += 1
        case _:
            chain.transactions["s"]["meta"]["postBalances"][1] += 1
    [reason] = (await verify(settings_for(chain), RECEIPT)).reasons
    assert reason == "transaction s, which it names, has not settled the batch"


def settling() -> dict[str, Any]:
    """The transaction that has made the record, whose house has moved as the record says."""
    return transaction_json(RECORD_SLOT, layout.house_address(PROGRAM, LANE))


async def test_a_receipt_under_another_root_does_not_hold(chain: ScriptedChain) -> None:
    chain.has_record(STATEMENT.bets_root + 1)
    reasons = (await verify(settings_for(chain), RECEIPT)).reasons
    assert "its inclusion proof leads to root" in reasons[0]
    assert reasons[1] == "it names another bets root than the chain"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"status": "rejected", "reason": RejectionReason.UNCOVERED},
            "was rejected .uncovered.: a rejected bet leaves",
        ),
        ({"number": None}, "names no lane and batch number"),
    ],
)
async def test_what_the_chain_says_nothing_about_is_not_said_to_hold(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(NoReceipt, match=said):
        await verify(Settings(), RECEIPT.model_copy(update=changed))


def test_receipts_are_read_as_status_and_as_the_workflow_print_them(tmp_path: Path) -> None:
    file = tmp_path / "receipt.json"
    file.write_text(RECEIPT.model_dump_json())
    assert read_receipt_file(file) == RECEIPT
    file.write_text('{"bet_id": "b", "state": "settled", "holds": true, "receipt": ' + RECEIPT.model_dump_json() + "}")
    assert read_receipt_file(file) == RECEIPT


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no receipt: Invalid JSON"),
        (b"\xff", "is no receipt: Invalid JSON"),
        (b"[]", "is no receipt: "),
        (b"{}", "is no receipt: bet_id: Field required"),
        (b'{"bet_id": "b", "state": "claimed", "receipt": null}', "has no receipt in it"),
        (b"[" * 100_000, "is no receipt: "),
        (b" " * 2_000_000, "is no receipt: "),
    ],
)
def test_what_is_no_receipt_is_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "receipt.json"
    file.write_bytes(content)
    with pytest.raises(NoReceipt, match=said) as refused:
        read_receipt_file(file)
    assert str(file) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("field", "value"), [("lane", 70_000), ("lane", -1), ("number", -1), ("number", 2**64), ("lane", 2**80)]
)
def test_a_batch_that_cannot_be_is_no_receipt(tmp_path: Path, field: str, value: int) -> None:
    file = tmp_path / "receipt.json"
    file.write_text(json.dumps({**json.loads(RECEIPT.model_dump_json()), field: value}))
    with pytest.raises(NoReceipt, match=f"is no receipt: {field}: Input should be"):
        read_receipt_file(file)


@pytest.mark.parametrize("path", [[5], ["zz"], "00", [None]])
def test_a_path_that_is_no_hashes_is_no_receipt(tmp_path: Path, path: Any) -> None:
    content = json.loads(RECEIPT.model_dump_json())
    content["inclusion"]["ids_path"] = path
    file = tmp_path / "receipt.json"
    file.write_text(json.dumps(content))
    with pytest.raises(NoReceipt, match="inclusion"):
        read_receipt_file(file)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoReceipt, match="absent cannot be read: No such file"):
        read_receipt_file(tmp_path / "absent")
