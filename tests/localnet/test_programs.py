"""Real programs on the local ledger: the upgradeable loader, lookup tables, account locks."""

import struct
from pathlib import Path

from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.litesvm import LiteSVM
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from localnet.transactions import ACCOUNT_LOCKS_MAX, LOOKUP_TABLE_PROGRAM
from tests.localnet.support import SOL, Cluster, deploy, running_cluster, sign, wire

SLOT_SECONDS = 0.02
MEMO = Pubkey.from_string("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr")
_LOOKUP_KEYS_PER_TRANSACTION = 25


def memo_elf() -> bytes:
    """The SPL memo program: small, real, and its log shows that it ran."""
    account = LiteSVM().get_account(MEMO)
    assert account is not None
    return account.data


async def say(cluster: Cluster, program: Pubkey, payer: Keypair, text: bytes) -> list[str]:
    """Invoke the memo program and return its logs."""
    transaction = sign([Instruction(program, text, [])], [payer], await cluster.blockhash())
    await cluster.land(transaction)
    landed = await cluster.result("getTransaction", str(transaction.signatures[0]), {"commitment": "confirmed"})
    return landed["meta"]["logMessages"]


async def test_a_deployed_program_executes_after_a_restart(tmp_path: Path) -> None:
    async with running_cluster(tmp_path / "ledger.db", SLOT_SECONDS) as (cluster, _):
        authority = await cluster.funded()
        program = await deploy(cluster, authority, memo_elf())
        assert "Program log: hello" in await say(cluster, program, authority, b"hello")
    async with running_cluster(tmp_path / "ledger.db", SLOT_SECONDS) as (cluster, _):
        account = (await cluster.result("getAccountInfo", str(program), {"encoding": "base64"}))["value"]
        assert account is None or account["executable"]
        assert "Program log: again" in await say(cluster, program, authority, b"again")


async def make_table(cluster: Cluster, authority: Keypair, addresses: list[Pubkey]) -> AddressLookupTableAccount:
    slot = await cluster.result("getSlot", {"commitment": "confirmed"})
    table, bump = Pubkey.find_program_address(
        [bytes(authority.pubkey()), slot.to_bytes(8, "little")], LOOKUP_TABLE_PROGRAM
    )
    metas = [
        AccountMeta(table, False, True),
        AccountMeta(authority.pubkey(), True, False),
        AccountMeta(authority.pubkey(), True, True),
        AccountMeta(SYSTEM_PROGRAM, False, False),
    ]
    create = Instruction(LOOKUP_TABLE_PROGRAM, struct.pack("<IQB", 0, slot, bump), metas)
    await cluster.land(sign([create], [authority], await cluster.blockhash()))
    for start in range(0, len(addresses), _LOOKUP_KEYS_PER_TRANSACTION):
        part = addresses[start : start + _LOOKUP_KEYS_PER_TRANSACTION]
        data = struct.pack("<IQ", 2, len(part)) + b"".join(bytes(address) for address in part)
        extend = Instruction(LOOKUP_TABLE_PROGRAM, data, metas)
        await cluster.land(sign([extend], [authority], await cluster.blockhash()))
    return AddressLookupTableAccount(table, addresses)


async def test_lookup_tables_resolve_and_what_they_name_is_durable(tmp_path: Path) -> None:
    recipients = [Keypair().pubkey() for _ in range(30)]
    async with running_cluster(tmp_path / "ledger.db", SLOT_SECONDS) as (cluster, _):
        payer = await cluster.funded()
        table = await make_table(cluster, payer, recipients)
        moves = [
            transfer(TransferParams(from_pubkey=payer.pubkey(), to_pubkey=recipient, lamports=SOL // 100))
            for recipient in recipients
        ]
        message = MessageV0.try_compile(payer.pubkey(), moves, [table], await cluster.blockhash())
        await cluster.land(VersionedTransaction(message, [payer]))
    async with running_cluster(tmp_path / "ledger.db", SLOT_SECONDS) as (cluster, _):
        assert [await cluster.balance(recipient) for recipient in recipients] == [SOL // 100] * len(recipients)


async def test_a_table_that_does_not_exist_and_too_many_locks_are_refused(cluster: Cluster) -> None:
    payer = await cluster.funded()
    addresses = [Keypair().pubkey() for _ in range(ACCOUNT_LOCKS_MAX)]
    missing = AddressLookupTableAccount(Pubkey.new_unique(), addresses)

    async def using(table: AddressLookupTableAccount, count: int) -> str:
        metas = [AccountMeta(address, False, True) for address in addresses[:count]]
        instruction = Instruction(SYSTEM_PROGRAM, b"", metas)
        message = MessageV0.try_compile(payer.pubkey(), [instruction], [table], await cluster.blockhash())
        return wire(VersionedTransaction(message, [payer]))

    # Entries become usable in the slot after the one that adds them: the confirmed bank may not be there yet.
    config = {"encoding": "base64", "preflightCommitment": "processed"}
    error = await cluster.error("sendTransaction", await using(missing, 1), config)
    assert (error["code"], error["message"]) == (
        -32602,
        "invalid transaction: Transaction loads an address table account that doesn't exist",
    )
    table = await make_table(cluster, payer, addresses)
    # The payer and the program are locked, too.
    error = await cluster.error("sendTransaction", await using(table, ACCOUNT_LOCKS_MAX - 1), config)
    assert error["data"]["err"] == "TooManyAccountLocks"
    error = await cluster.error("sendTransaction", await using(table, ACCOUNT_LOCKS_MAX - 2), config)
    assert error["data"]["err"] == {"InstructionError": [0, "InvalidInstructionData"]}
