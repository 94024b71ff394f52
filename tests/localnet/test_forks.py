"""A fork takes the newest blocks back as if they had never been; final ones never; and it outlives a crash."""

import asyncio
import random
import sqlite3
import struct
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import TransferParams, transfer
from solders.sysvar import CLOCK, RENT
from solders.transaction import VersionedTransaction

from localnet.chain import FINALIZED_DEPTH_BLOCKS, Chain
from localnet.engine import UPGRADEABLE_LOADER
from localnet.errors import LedgerUnusable
from localnet.ledger import FAUCET_LAMPORTS, LEADER_LAMPORTS, Ledger
from program.build import ARTEFACT
from tests.localnet.picture import LEVELS, Picture, Subjects, picture
from tests.localnet.support import (
    FEE,
    SOL,
    WAIT_SECONDS_MAX,
    Cluster,
    LocalnetProcess,
    connect,
    deploy,
    pay,
    program_data_of,
    running_cluster,
    sign,
    until,
    wire,
    write_buffer,
)
from tests.localnet.test_durability import total_lamports
from tests.localnet.test_programs import make_table, memo_elf, say

SLOT_SECONDS = 0.01
PROCESS_SLOT_MS = 20
Nodes = tuple[Cluster, Cluster]


async def fork(cluster: Cluster, depth: int) -> list[str]:
    return await cluster.result("croupierFork", {"depth": depth})


async def fork_to(cluster: Cluster, old_height: int) -> list[str]:
    """Undo everything from the block that was open at `old_height`; no slot may end meanwhile."""
    return await fork(cluster, await cluster.height() - old_height)


async def settled(cluster: Cluster) -> Keypair:
    """A payer whose money no fork can take back."""
    payer = await cluster.funded()
    await cluster.reach(await cluster.slot(), "finalized")
    return payer


def without_progress(shown: Picture) -> Picture:
    """What must be as before: not the slot numbers, which go upward, nor finality, which has gone on."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            members = cast(dict[str, Any], value)
            return {
                key: strip(entry) for key, entry in members.items() if key not in ("slot", "absoluteSlot", "slotIndex")
            }
        return [strip(entry) for entry in cast(list[Any], value)] if isinstance(value, list) else value

    return {
        request: strip(answer)
        for request, answer in shown.items()
        if not request.endswith("finalized") and "getSlot" not in request
    }


async def test_the_state_after_a_fork_is_the_state_before_what_it_undid(nodes: Nodes) -> None:
    first, second = nodes
    payer, recipient, blank = await settled(first), Keypair().pubkey(), Keypair().pubkey()
    earlier = await first.send(pay(payer, recipient, SOL, await first.blockhash()))
    await first.wait_for(earlier, "confirmed")

    await first.stand_still()
    old_height, old_slot = await first.height(), await first.slot()
    blockhash = await first.blockhash()
    to_come = [pay(payer, recipient if n % 2 else blank, SOL + n, blockhash) for n in range(4)]
    signatures = [earlier, *(transaction.signatures[0] for transaction in to_come)]
    subjects = Subjects(payer.pubkey(), [payer.pubkey(), recipient, blank], [blockhash], signatures)
    before = await picture(first, subjects)
    await first.clear_faults()

    await first.reach(old_slot + 1)
    for transaction in to_come[:3]:
        await first.send(transaction)
        await first.reach(await first.slot() + 1)
    await first.wait_for(to_come[2].signatures[0], "confirmed")
    seen = {level: await first.slot(level) for level in LEVELS}
    await first.stand_still()
    await first.send(to_come[3])  # into the open slot
    changed = await picture(first, subjects)
    undone = await fork_to(first, old_height)
    assert undone == [str(transaction.signatures[0]) for transaction in to_come]
    after = await picture(first, subjects)
    assert without_progress(after) == without_progress(before) != without_progress(changed)
    assert await picture(second, subjects) == after
    assert await first.slot() > seen["processed"], "slots go upward"
    assert await first.slot("confirmed") < seen["confirmed"]
    assert await first.slot("finalized") >= seen["finalized"]
    await first.clear_faults()
    await first.reach(await first.slot() + 3, "confirmed")
    assert await first.status(to_come[0].signatures[0], search=True) is None


async def test_what_was_undone_lands_again_once_while_its_blockhash_lives(nodes: Nodes) -> None:
    first, _ = nodes
    payer, recipient = await settled(first), Keypair().pubkey()
    transaction = pay(payer, recipient, SOL, await first.blockhash("finalized"))
    landed = await first.land(transaction)
    await first.stand_still()
    depth = await first.height() - await first.height("finalized") - 5
    assert str(transaction.signatures[0]) in await fork(first, depth)
    assert await first.balance(recipient) == 0
    await first.clear_faults()
    again = await first.land(transaction)
    assert again["slot"] > landed["slot"]
    await first.send(transaction, skipPreflight=True)
    assert await first.balance(recipient) == SOL
    assert await first.balance(payer.pubkey()) == 10 * SOL - SOL - FEE
    await first.wait_for(transaction.signatures[0], "finalized")
    history = await first.result("getSignaturesForAddress", str(recipient))
    assert [entry["slot"] for entry in history] == [again["slot"]]


async def test_blockhashes_of_undone_blocks_are_unknown_and_never_come_again(nodes: Nodes) -> None:
    first, _ = nodes
    payer = await settled(first)
    await first.stand_still()
    old_height = await first.height()
    kept = await first.blockhash("processed")
    await first.clear_faults()
    gone: set[Hash] = set()
    while await first.height() < old_height + 5:
        gone.add(await first.blockhash("processed"))
    await first.stand_still()
    gone = {*gone, await first.blockhash("processed")} - {kept}
    assert len(gone) > 1
    assert await fork_to(first, old_height) == []
    for blockhash in gone:
        valid = await first.result("isBlockhashValid", str(blockhash), {"commitment": "processed"})
        assert valid["value"] is False
    assert (await first.result("isBlockhashValid", str(kept), {"commitment": "processed"}))["value"] is True
    late = pay(payer, Keypair().pubkey(), SOL, next(iter(gone)))
    config = {"encoding": "base64", "preflightCommitment": "processed"}
    assert (await first.error("sendTransaction", wire(late), config))["data"]["err"] == "BlockhashNotFound"
    await first.clear_faults()
    seen: set[Hash] = set()
    while await first.height() < old_height + 8:
        seen.add(await first.blockhash("processed"))
    assert not seen & gone, "the chain goes on with other hashes"
    for blockhash in gone:
        valid = await first.result("isBlockhashValid", str(blockhash), {"commitment": "processed"})
        assert valid["value"] is False, "not even when the chain is as high as it was"


async def test_final_blocks_are_never_undone_and_finality_never_goes_back(nodes: Nodes) -> None:
    first, _ = nodes
    payer = await first.funded()
    await first.wait_for(await first.send(pay(payer, Keypair().pubkey(), SOL, await first.blockhash())), "finalized")
    await first.stand_still()
    finalized = [await first.slot("finalized"), await first.height("finalized")]
    root = await first.balance(payer.pubkey(), "finalized")
    error = await first.error("croupierFork", {"depth": FINALIZED_DEPTH_BLOCKS + 1})
    assert error == {
        "code": -32602,
        "message": f"Invalid params: depth must be at most {FINALIZED_DEPTH_BLOCKS} now: older blocks are final",
    }
    await fork(first, FINALIZED_DEPTH_BLOCKS)
    assert [await first.height(level) for level in LEVELS] == [finalized[1] + 1, finalized[1], finalized[1]]
    assert "at most 0 now" in (await first.error("croupierFork", {"depth": 1}))["message"]
    await first.clear_faults()
    for _ in range(20):
        now = [await first.slot("finalized"), await first.height("finalized")]
        assert now >= finalized
        assert await first.balance(payer.pubkey(), "finalized") == root
    await first.reach(finalized[0] + FINALIZED_DEPTH_BLOCKS + 5)
    await fork(first, 2)
    assert await first.slot("finalized") >= finalized[0]


async def test_levels_keep_their_order_through_forks(nodes: Nodes) -> None:
    first, second = nodes
    await first.inject("behind", node=1, slots=7)
    await first.inject("delayed_confirmation", node=1)
    last = [0, 0]
    for depth in (1, 5, 9, 20):
        await first.reach(await first.slot() + 12)
        await fork(first, depth)
        for position, node in enumerate((first, second)):
            heights = [await node.height(level) for level in ("finalized", "confirmed", "processed")]
            assert heights == sorted(heights)
            assert heights[0] >= last[position]
            last[position] = heights[0]


async def test_prices_and_fees_of_undone_blocks_are_gone(nodes: Nodes) -> None:
    first, _ = nodes
    payer = await settled(first)
    await first.stand_still()
    old_height = await first.height()
    total = await total_lamports(first)
    prices = await first.result("getRecentPrioritizationFees")
    await first.clear_faults()
    await first.reach(await first.slot() + 1)
    await first.land(pay(payer, Keypair().pubkey(), SOL, await first.blockhash()))
    await first.stand_still()
    await fork_to(first, old_height)
    assert await first.result("getRecentPrioritizationFees") == prices
    assert await first.balance(payer.pubkey()) == 10 * SOL
    await first.clear_faults()
    await first.reach(await first.slot() + 1, "confirmed")
    assert await total_lamports(first) == total == FAUCET_LAMPORTS + LEADER_LAMPORTS


async def test_lamports_are_conserved_and_paid_once_through_many_forks(nodes: Nodes) -> None:
    first, _ = nodes
    payer, recipient = await settled(first), Keypair().pubkey()
    chance = random.Random(4)
    sent: list[VersionedTransaction] = []
    for round_ in range(15):
        for _ in range(chance.randrange(4)):
            sent.append(pay(payer, recipient, SOL // 1000 + len(sent), await first.blockhash("finalized")))
            await first.send(sent[-1], skipPreflight=True)
        for transaction in chance.sample(sent, min(len(sent), 3)):
            await first.send(transaction, skipPreflight=True)
        await first.reach(await first.slot() + 1)
        if round_ % 3 == 2:
            await fork(first, chance.randrange(1, 6))
    await first.reach(await first.slot() + 2, "confirmed")
    await first.stand_still()
    amounts = 0
    landed = 0
    for transaction in sent:
        if await first.status(transaction.signatures[0]) is not None:
            landed += 1
            amounts += SOL // 1000 + sent.index(transaction)
    assert landed
    assert await first.balance(recipient) == amounts
    assert await first.balance(payer.pubkey()) == 10 * SOL - amounts - landed * FEE
    assert await total_lamports(first) == FAUCET_LAMPORTS + LEADER_LAMPORTS


async def test_undone_blocks_do_not_come_back_after_a_kill(tmp_path: Path) -> None:
    process = await LocalnetProcess.start(tmp_path / "ledger.db", PROCESS_SLOT_MS, "--faults")
    recipient = Keypair().pubkey()
    async with connect(process.url) as cluster:
        payer = await settled(cluster)
        kept = await cluster.send(pay(payer, recipient, SOL, await cluster.blockhash()))
        await cluster.wait_for(kept, "confirmed")
        await cluster.reach(await cluster.slot() + 2, "confirmed")
        await cluster.stand_still()
        old_height = await cluster.height()
        survivor = await cluster.blockhash()
        await cluster.clear_faults()
        await cluster.reach(await cluster.slot() + 1)
        transaction = pay(payer, recipient, 2 * SOL, survivor)
        await cluster.land(transaction)
        undone_hash = await cluster.blockhash()
        await cluster.stand_still()
        assert await fork_to(cluster, old_height) == [str(transaction.signatures[0])]
        slot, finalized = await cluster.slot(), await cluster.slot("finalized")
        await process.kill()
    async with running_cluster(tmp_path / "ledger.db", SLOT_SECONDS) as (cluster, _):
        assert await cluster.slot() > slot
        assert await cluster.slot("finalized") >= finalized
        assert await cluster.status(transaction.signatures[0], search=True) is None
        assert await cluster.status(kept) is not None
        assert await cluster.balance(recipient) == SOL
        valid = await cluster.result("isBlockhashValid", str(undone_hash), {"commitment": "processed"})
        assert valid["value"] is False
        assert await total_lamports(cluster) == FAUCET_LAMPORTS + LEADER_LAMPORTS
        await cluster.land(transaction)
        assert await cluster.balance(recipient) == 3 * SOL
        newest = {"limit": 2, "commitment": "confirmed"}
        history = await cluster.result("getSignaturesForAddress", str(recipient), newest)
        assert [entry["signature"] for entry in history] == [str(transaction.signatures[0]), str(kept)]


async def test_a_deep_fork_keeps_finality_and_slots_over_a_restart_that_comes_at_once(tmp_path: Path) -> None:
    """No block is stored between the fork and the restart, as if the process were killed there."""
    ledger = Ledger.open(tmp_path / "ledger.db", SLOT_SECONDS)
    first_final = ledger.sight.finalized
    slots = asyncio.create_task(ledger.run())

    async def ten_blocks_later() -> bool:
        return ledger.sight.finalized >= first_final + 10

    await until(ten_blocks_later)
    ledger.hold_slots_while(lambda: True)

    async def stored() -> bool:
        return ledger.sight.finalized == ledger.sight.completed - FINALIZED_DEPTH_BLOCKS

    await until(stored)
    finalized = ledger.view("finalized")
    await ledger.fork(FINALIZED_DEPTH_BLOCKS)
    seen = [ledger.view(level) for level in LEVELS]
    assert [view.height for view in seen] == [finalized.height + 1, finalized.height, finalized.height]
    slots.cancel()
    await asyncio.gather(slots, return_exceptions=True)
    ledger.close()
    reopened = Ledger.open(tmp_path / "ledger.db", SLOT_SECONDS)
    assert reopened.view("finalized") == finalized
    assert reopened.view("processed").slot > seen[0].slot
    assert reopened.view("processed").blockhash == seen[0].blockhash
    reopened.close()
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as database:
        assert database.execute("SELECT max(height) FROM blocks").fetchone() == (finalized.height,)


class Panic(BaseException):
    """As native code raises."""


async def test_a_ledger_whose_memory_did_not_follow_the_disk_writes_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its blocks would stand above a gap, and blocks would be taken for others after a restart."""
    ledger = Ledger.open(tmp_path / "ledger.db", SLOT_SECONDS)
    first = ledger.sight.completed
    slots = asyncio.create_task(ledger.run())

    async def ten_blocks_later() -> bool:
        return ledger.sight.completed >= first + 10

    await until(ten_blocks_later)

    def panics(*_: object) -> None:
        raise Panic

    monkeypatch.setattr(Chain, "undo", panics)
    with pytest.raises(Panic):
        await ledger.fork(5)
    with pytest.raises(LedgerUnusable, match="start it again"):
        await asyncio.wait_for(slots, WAIT_SECONDS_MAX)
    ledger.close()
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as database:
        [(lowest, highest, count)] = database.execute("SELECT min(height), max(height), count(*) FROM blocks")
    assert highest - lowest + 1 == count
    Ledger.open(tmp_path / "ledger.db", SLOT_SECONDS).close()


async def undo_from(cluster: Cluster, signature: Signature | str) -> list[str]:
    """Undo the block of a transaction and all that came after it."""
    await cluster.stand_still()
    ((status,),) = [(await cluster.result("getSignatureStatuses", [str(signature)]))["value"]]
    undone = await fork(cluster, status["confirmations"])
    assert undone[0] == str(signature)
    await cluster.clear_faults()
    return undone


async def invocation_error(cluster: Cluster, program: Pubkey, payer: Keypair) -> object:
    transaction = sign([Instruction(program, b"hello", [])], [payer], await cluster.blockhash())
    config = {"encoding": "base64", "commitment": "processed"}
    return (await cluster.result("simulateTransaction", wire(transaction), config))["value"]["err"]


async def test_a_deployment_that_was_undone_is_gone_and_its_transaction_deploys_again(nodes: Nodes) -> None:
    first, _ = nodes
    authority = await settled(first)
    program = await deploy(first, authority, memo_elf())
    assert "Program log: hello" in await say(first, program, authority, b"hello")
    newest = await first.result("getSignaturesForAddress", str(program), {"commitment": "confirmed"})
    deployment = newest[-1]["signature"]
    config = {"commitment": "confirmed", "encoding": "base64"}
    sent = (await first.result("getTransaction", deployment, config))["transaction"][0]

    assert len(await undo_from(first, deployment)) == 2
    assert await invocation_error(first, program, authority) == "ProgramAccountNotFound"
    for address in (program, program_data_of(program)):
        account = await first.result("getAccountInfo", str(address), {"commitment": "processed", "encoding": "base64"})
        assert account["value"] is None
    owned = await first.result(
        "getProgramAccounts", str(UPGRADEABLE_LOADER), {"commitment": "processed", "encoding": "base64"}
    )
    assert str(program) not in {entry["pubkey"] for entry in owned}

    again = await first.result("sendTransaction", sent, {"encoding": "base64", "preflightCommitment": "processed"})
    assert again == deployment
    await first.wait_for(Signature.from_string(again), "confirmed")
    assert "Program log: hello" in await say(first, program, authority, b"hello")


async def test_an_upgrade_that_was_undone_leaves_the_old_program_running(nodes: Nodes) -> None:
    first, _ = nodes
    authority = await settled(first)
    program = await deploy(first, authority, ARTEFACT.read_bytes())
    refusal = await invocation_error(first, program, authority)
    assert refusal is not None
    buffer = await write_buffer(first, authority, memo_elf())
    accounts = [
        *(AccountMeta(key, False, True) for key in (program_data_of(program), program, buffer, authority.pubkey())),
        *(AccountMeta(key, False, False) for key in (RENT, CLOCK)),
        AccountMeta(authority.pubkey(), True, False),
    ]
    upgrade = Instruction(UPGRADEABLE_LOADER, struct.pack("<I", 3), accounts)
    transaction = sign([upgrade], [authority], await first.blockhash())
    await first.land(transaction)
    assert await invocation_error(first, program, authority) is None
    await undo_from(first, transaction.signatures[0])
    assert await invocation_error(first, program, authority) == refusal
    await first.land(transaction)
    assert await invocation_error(first, program, authority) is None


async def test_a_lookup_table_that_was_undone_resolves_no_more(nodes: Nodes) -> None:
    first, _ = nodes
    payer, recipient = await settled(first), Keypair().pubkey()
    table = await make_table(first, payer, [recipient, Keypair().pubkey()])
    move = transfer(TransferParams(from_pubkey=payer.pubkey(), to_pubkey=recipient, lamports=SOL))
    message = MessageV0.try_compile(payer.pubkey(), [move], [table], await first.blockhash("finalized"))
    transaction = VersionedTransaction(message, [payer])
    await first.land(transaction)
    history = await first.result("getSignaturesForAddress", str(table.key), {"commitment": "confirmed"})
    creation, extension = history[-1]["signature"], history[-2]["signature"]
    assert len(await undo_from(first, extension)) == 2
    assert await first.balance(recipient) == 0
    config = {"encoding": "base64", "preflightCommitment": "processed"}
    error = await first.error("sendTransaction", wire(transaction), config)
    assert "uses an invalid index" in error["message"], "the table is there, its entries are not"
    await undo_from(first, creation)
    error = await first.error("sendTransaction", wire(transaction), config)
    assert "address table account that doesn't exist" in error["message"]


async def test_skipped_slots_have_no_blocks_and_are_not_used_again(tmp_path: Path) -> None:
    async with running_cluster(tmp_path / "ledger.db", SLOT_SECONDS, with_faults=True) as (cluster, _):
        payer = await cluster.funded()
        await cluster.stand_still()
        signature = await cluster.send(pay(payer, Keypair().pubkey(), SOL, await cluster.blockhash()))
        before = [await cluster.slot(), await cluster.height()]
        open_slot = await cluster.result("croupierSkipSlots", {"slots": 1_000})
        assert open_slot == before[0] + 1_001
        assert [await cluster.slot(), await cluster.height()] == [open_slot, before[1] + 1]
        status = await cluster.status(signature)
        assert status is not None
        assert status["slot"] == before[0]
        assert await cluster.applied("skip_slots") == 1
        await cluster.clear_faults()
        await cluster.wait_for(signature, "finalized")
        assert await cluster.height() < before[1] + 500


async def test_slots_that_were_skipped_are_remembered_over_a_kill(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "ledger.db", SLOT_SECONDS)
    open_slot = await ledger.skip_slots(1_000)
    ledger.close()
    reopened = Ledger.open(tmp_path / "ledger.db", SLOT_SECONDS)
    assert reopened.view("processed").slot > open_slot
    reopened.close()


async def test_what_a_fork_restored_outlives_finality_and_a_restart(tmp_path: Path) -> None:
    async with running_cluster(tmp_path / "ledger.db", SLOT_SECONDS, with_faults=True) as (cluster, _):
        payer = await settled(cluster)
        landed = pay(payer, Keypair().pubkey(), SOL, await cluster.blockhash())
        await cluster.land(landed)
        await undo_from(cluster, landed.signatures[0])
        await cluster.reach(await cluster.slot() + FINALIZED_DEPTH_BLOCKS, "finalized")
        assert await cluster.balance(payer.pubkey(), "finalized") == 10 * SOL
    async with running_cluster(tmp_path / "ledger.db", SLOT_SECONDS) as (cluster, _):
        assert await cluster.balance(payer.pubkey()) == 10 * SOL
        assert await total_lamports(cluster) == FAUCET_LAMPORTS + LEADER_LAMPORTS
