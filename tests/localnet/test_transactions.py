"""What lands, what is refused and with which code, and what is dropped without a word."""

import base64
import struct
from dataclasses import replace

import base58
import pytest
from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from localnet.errors import TransactionRejected
from localnet.transactions import check_locks, sanitize
from tests.localnet.support import FEE, SOL, Cluster, pay, sign, until, wire

CONFIRMED = {"encoding": "base64", "preflightCommitment": "confirmed"}
SKIP = {"encoding": "base64", "skipPreflight": True}
PACKET_BYTES = 1232


async def test_a_transfer_moves_through_the_commitment_levels(cluster: Cluster) -> None:
    payer, recipient = await cluster.funded(), Keypair().pubkey()
    signature = await cluster.send(pay(payer, recipient, SOL, await cluster.blockhash()))
    levels: list[str] = []

    async def finalized() -> bool:
        status = await cluster.status(signature)
        assert status is not None
        levels.append(status["confirmationStatus"])
        assert (status["err"], status["status"]) == (None, {"Ok": None})
        assert (status["confirmations"] is None) == (levels[-1] == "finalized")
        return levels[-1] == "finalized"

    await until(finalized)
    assert sorted(levels, key=["processed", "confirmed", "finalized"].index) == levels
    assert "confirmed" in levels


async def test_the_same_bytes_execute_once(cluster: Cluster) -> None:
    payer, recipient = await cluster.funded(), Keypair().pubkey()
    transaction = pay(payer, recipient, SOL, await cluster.blockhash())
    for _ in range(3):
        assert await cluster.send(transaction, skipPreflight=True) == transaction.signatures[0]
    error = await cluster.error(
        "sendTransaction", wire(transaction), {"encoding": "base64", "preflightCommitment": "processed"}
    )
    assert (error["code"], error["data"]["err"]) == (-32002, "AlreadyProcessed")
    assert error["message"] == "Transaction simulation failed: This transaction has already been processed"
    assert await cluster.balance(recipient) == SOL


async def test_an_unknown_blockhash_fails_preflight_and_is_dropped_without(cluster: Cluster) -> None:
    payer, recipient = await cluster.funded(), Keypair().pubkey()
    transaction = pay(payer, recipient, SOL, Hash.new_unique())
    error = await cluster.error("sendTransaction", wire(transaction), CONFIRMED)
    assert (error["code"], error["data"]["err"]) == (-32002, "BlockhashNotFound")
    assert error["message"] == "Transaction simulation failed: Blockhash not found"
    assert await cluster.send(transaction, skipPreflight=True) == transaction.signatures[0]
    assert await cluster.status(transaction.signatures[0], search=True) is None
    assert await cluster.balance(recipient) == 0


async def test_a_blockhash_newer_than_the_preflight_bank_is_not_found(cluster: Cluster) -> None:
    payer = await cluster.funded()
    transaction = pay(payer, Keypair().pubkey(), SOL, await cluster.blockhash())
    error = await cluster.error("sendTransaction", wire(transaction), {"encoding": "base64"})
    assert error["data"]["err"] == "BlockhashNotFound"


async def test_a_wrong_signature_is_refused_or_dropped(cluster: Cluster) -> None:
    payer, recipient = await cluster.funded(), Keypair().pubkey()
    good = pay(payer, recipient, SOL, await cluster.blockhash())
    forged = VersionedTransaction.populate(good.message, [Keypair().sign_message(b"something else")])
    error = await cluster.error("sendTransaction", wire(forged), CONFIRMED)
    assert (error["code"], error["message"]) == (-32003, "Transaction signature verification failure")
    assert await cluster.send(forged, skipPreflight=True) == forged.signatures[0]
    error = await cluster.error("simulateTransaction", wire(forged), {"encoding": "base64", "sigVerify": True})
    assert error["code"] == -32003
    assert await cluster.balance(recipient) == 0


async def test_one_byte_over_the_packet_size_is_refused(cluster: Cluster) -> None:
    payer = await cluster.funded()
    blockhash = await cluster.blockhash()

    def of_size(size: int) -> VersionedTransaction:
        def padded(data_bytes: int) -> VersionedTransaction:
            memo = Pubkey.from_string("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr")
            return sign([Instruction(memo, b"a" * data_bytes, [])], [payer], blockhash)

        transaction = padded(size - (len(bytes(padded(1000))) - 1000))
        assert len(bytes(transaction)) == size
        return transaction

    await cluster.land(of_size(PACKET_BYTES))
    too_large = of_size(PACKET_BYTES + 1)
    error = await cluster.error("sendTransaction", wire(too_large), SKIP)
    assert error["code"] == -32602
    assert "too large: 1233 bytes (max: 1232 bytes)" in error["message"]
    as_base58 = base58.b58encode(bytes(too_large)).decode()
    assert "too large" in (await cluster.error("sendTransaction", as_base58))["message"]


async def test_a_failure_on_chain_is_recorded_and_pays_its_fee(cluster: Cluster) -> None:
    payer, recipient = await cluster.funded(), Keypair().pubkey()
    transaction = pay(payer, recipient, 100 * SOL, await cluster.blockhash())
    expected = {"InstructionError": [0, {"Custom": 1}]}

    error = await cluster.error("sendTransaction", wire(transaction), CONFIRMED)
    assert error["code"] == -32002
    assert error["message"] == (
        "Transaction simulation failed: Error processing Instruction 0: custom program error: 0x1"
    )
    assert error["data"]["err"] == expected
    assert error["data"]["unitsConsumed"] == 150
    assert any("insufficient lamports" in line for line in error["data"]["logs"])
    assert await cluster.status(transaction.signatures[0]) is None

    signature = await cluster.send(transaction, skipPreflight=True)
    status = await cluster.wait_for(signature, "confirmed", "finalized")
    assert (status["err"], status["status"]) == (expected, {"Err": expected})
    landed = await cluster.result("getTransaction", str(signature), {"commitment": "confirmed"})
    assert (landed["meta"]["err"], landed["meta"]["fee"]) == (expected, FEE)
    assert await cluster.balance(payer.pubkey()) == 10 * SOL - FEE


async def test_a_payer_without_funds_leaves_no_trace(cluster: Cluster) -> None:
    stranger = Keypair()
    transaction = pay(stranger, Keypair().pubkey(), SOL, await cluster.blockhash())
    error = await cluster.error("sendTransaction", wire(transaction), CONFIRMED)
    assert error["data"]["err"] == "AccountNotFound"
    assert error["data"]["unitsConsumed"] == 0
    signature = await cluster.send(transaction, skipPreflight=True)
    assert await cluster.status(signature, search=True) is None


async def test_a_program_that_does_not_exist_is_named_as_such(cluster: Cluster) -> None:
    payer = await cluster.funded()
    transaction = sign([Instruction(Pubkey.new_unique(), b"", [])], [payer], await cluster.blockhash())
    error = await cluster.error("sendTransaction", wire(transaction), CONFIRMED)
    assert error["data"]["err"] == "ProgramAccountNotFound"


async def test_priority_fees_are_charged_and_reported(cluster: Cluster) -> None:
    payer, recipient = await cluster.funded(), Keypair().pubkey()
    move = transfer(TransferParams(from_pubkey=payer.pubkey(), to_pubkey=recipient, lamports=SOL))
    budget = [set_compute_unit_limit(1_000), set_compute_unit_price(2_000_000)]
    transaction = sign([*budget, move], [payer], await cluster.blockhash())
    message = base64.b64encode(bytes(transaction.message)).decode()
    quoted = await cluster.result("getFeeForMessage", message, {"commitment": "confirmed"})
    assert quoted["value"] == FEE + 2_000
    status = await cluster.land(transaction)
    assert await cluster.balance(payer.pubkey()) == 9 * SOL - FEE - 2_000
    fees = await cluster.result("getRecentPrioritizationFees", [str(recipient)])
    assert {entry["slot"]: entry["prioritizationFee"] for entry in fees}[status["slot"]] == 2_000_000
    unrelated = await cluster.result("getRecentPrioritizationFees", [str(Pubkey.new_unique())])
    assert {entry["prioritizationFee"] for entry in unrelated} == {0}


async def test_a_fee_is_not_quoted_for_an_expired_blockhash(cluster: Cluster) -> None:
    payer = Keypair().pubkey()
    message = Message.new_with_blockhash([], payer, Hash.new_unique())
    quoted = await cluster.result("getFeeForMessage", base64.b64encode(bytes(message)).decode())
    assert quoted["value"] is None


async def test_simulation_sees_the_state_of_its_commitment_and_changes_nothing(cluster: Cluster) -> None:
    payer, recipient = Keypair(), Keypair().pubkey()
    await cluster.client.request_airdrop(payer.pubkey(), 10 * SOL)
    unsigned = VersionedTransaction.populate(pay(payer, recipient, SOL, Hash.default()).message, [Signature.default()])

    async def simulate(commitment: str) -> dict[str, object]:
        config = {
            "encoding": "base64",
            "replaceRecentBlockhash": True,
            "commitment": commitment,
            "accounts": {"addresses": [str(recipient)], "encoding": "base64"},
        }
        return (await cluster.result("simulateTransaction", wire(unsigned), config))["value"]

    early = await simulate("finalized")
    assert (early["err"], early["accounts"]) == ("AccountNotFound", [None])
    now = await simulate("processed")
    assert now["err"] is None
    assert now["replacementBlockhash"]
    accounts = now["accounts"]
    assert isinstance(accounts, list)
    assert accounts[0]["lamports"] == SOL
    assert await cluster.balance(recipient) == 0
    assert await cluster.balance(payer.pubkey()) == 10 * SOL


async def test_inner_instructions_and_v0_messages_keep_their_shape(cluster: Cluster) -> None:
    payer = await cluster.funded()
    message = MessageV0.try_compile(payer.pubkey(), [], [], await cluster.blockhash())
    signature = await cluster.send(VersionedTransaction(message, [payer]))
    await cluster.wait_for(signature, "confirmed", "finalized")
    error = await cluster.error("getTransaction", str(signature), {"commitment": "confirmed"})
    assert error["code"] == -32015
    landed = await cluster.result(
        "getTransaction", str(signature), {"commitment": "confirmed", "maxSupportedTransactionVersion": 0}
    )
    assert landed["version"] == 0
    assert landed["transaction"]["message"]["addressTableLookups"] == []


def test_a_transaction_locks_64_accounts_and_no_more() -> None:
    payer = Keypair()
    message = Message.new_with_compiled_instructions(
        1, 0, 63, [payer.pubkey(), *(Pubkey.new_unique() for _ in range(63))], Hash.default(), []
    )
    transaction = VersionedTransaction.populate(message, [Signature.default()])
    full = sanitize(transaction, lambda _: None, 0, [])
    check_locks(full)
    with pytest.raises(TransactionRejected) as refused:
        check_locks(replace(full, keys=(*full.keys, Pubkey.new_unique())))
    assert refused.value.error == "TooManyAccountLocks"


async def test_an_account_named_twice_is_refused(cluster: Cluster) -> None:
    payer = await cluster.funded()
    message = Message.new_with_compiled_instructions(
        1, 0, 1, [payer.pubkey(), SYSTEM_PROGRAM, SYSTEM_PROGRAM], await cluster.blockhash(), []
    )
    signature = payer.sign_message(bytes(message))
    transaction = VersionedTransaction.populate(message, [signature])
    error = await cluster.error("sendTransaction", wire(transaction), CONFIRMED)
    assert error["data"]["err"] == "AccountLoadedTwice"


async def test_bytes_that_are_no_transaction_are_refused(cluster: Cluster) -> None:
    for garbage in (b"", b"\xff" * 40, struct.pack("<Q", 1)):
        error = await cluster.error("sendTransaction", base64.b64encode(garbage).decode(), SKIP)
        assert error["code"] == -32602
        assert "failed to deserialize" in error["message"]
    assert (await cluster.error("sendTransaction", "not base64!", SKIP))["code"] == -32602
