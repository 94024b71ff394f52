"""Nodes that see less of the chain than there is: behind, with confirmation delayed, standing still."""

import asyncio
from pathlib import Path

import pytest
from solders.keypair import Keypair

from localnet.chain import CONFIRMED_DEPTH_BLOCKS, FINALIZED_DEPTH_BLOCKS
from localnet.ledger import Ledger
from tests.localnet.picture import LEVELS, Subjects, picture
from tests.localnet.support import SOL, Cluster, pay, running_cluster, wire

SLOT_SECONDS = 0.01
Nodes = tuple[Cluster, Cluster]


async def slots(node: Cluster) -> list[int]:
    return [await node.slot(level) for level in LEVELS]


async def test_a_node_behind_shows_the_chain_of_then_by_every_method_and_at_every_level(nodes: Nodes) -> None:
    first, second = nodes
    payer, early, late = await first.funded(), Keypair().pubkey(), Keypair().pubkey()
    transaction = pay(payer, early, SOL, await first.blockhash())
    landed = await first.land(transaction)
    await first.reach(landed["slot"] + 1, "finalized")  # the payer is known at every level
    another = pay(payer, early, SOL, await first.blockhash())
    await first.land(another)

    await first.stand_still()
    old_height = await first.height()
    old_hash = await first.blockhash()
    to_come = pay(payer, late, SOL, old_hash)
    signatures = [entry.signatures[0] for entry in (transaction, another, to_come)]
    before = await picture(first, Subjects(payer.pubkey(), [early, late], [old_hash], signatures))
    await first.clear_faults()

    await first.reach(await first.slot() + 1)  # what comes must not land in the slot that the picture shows
    await first.land(to_come)
    await first.wait_for(to_come.signatures[0], "finalized")  # all that the picture shows lies before the root by now
    await first.stand_still()
    new_hash = await first.blockhash()
    blocks = await first.height() - old_height
    await first.inject("behind", node=1, slots=blocks)
    subjects = Subjects(payer.pubkey(), [early, late], [old_hash], signatures)
    assert await picture(second, subjects) == before
    assert await picture(first, subjects) != before
    unknown = await second.result("isBlockhashValid", str(new_hash), {"commitment": "processed"})
    assert unknown["value"] is False, "its own chain has not produced that blockhash yet"
    error = await second.error("getSlot", {"commitment": "processed", "minContextSlot": await first.slot()})
    assert error["code"] == -32016


async def test_a_node_behind_still_forwards_what_it_is_sent(nodes: Nodes) -> None:
    first, second = nodes
    payer = await first.funded()
    await first.inject("behind", node=1, slots=10)
    transaction = pay(payer, Keypair().pubkey(), SOL, await first.blockhash())
    error = await second.error("sendTransaction", wire(transaction), {"encoding": "base64"})
    assert error["data"]["err"] == "BlockhashNotFound", "its preflight is of long ago"
    await second.send(transaction, skipPreflight=True)
    assert await first.status(transaction.signatures[0]) is not None
    assert await second.status(transaction.signatures[0]) is None
    await first.wait_for(transaction.signatures[0], "finalized")
    assert await second.wait_for(transaction.signatures[0], "processed", "confirmed", "finalized")


async def test_only_the_named_methods_see_an_older_chain(nodes: Nodes) -> None:
    first, second = nodes
    await first.stand_still()
    await first.inject("behind", node=1, slots=5, methods=["getBlockHeight"])
    assert await slots(second) == await slots(first)
    height = await first.height("confirmed")
    assert await second.height("confirmed") == height - 5


async def test_a_node_is_never_shown_what_was_before_the_root_of_the_start(tmp_path: Path) -> None:
    async with running_cluster(tmp_path / "ledger.db", SLOT_SECONDS, with_faults=True) as (cluster, _):
        recipient = Keypair().pubkey()
        await cluster.land(pay(await cluster.funded(), recipient, SOL, await cluster.blockhash()))
        await cluster.reach(await cluster.slot(), "finalized")
    async with running_cluster(tmp_path / "ledger.db", SLOT_SECONDS, with_faults=True) as (cluster, running):
        root = running.ledger.sight.finalized
        await cluster.inject("behind", slots=1_000)
        for level in LEVELS[1:]:
            assert await cluster.height(level) == root
            assert await cluster.balance(recipient, level) == SOL


@pytest.mark.parametrize("node", [1, None])
async def test_confirmation_stands_still_and_catches_up(nodes: Nodes, node: int | None) -> None:
    first, second = nodes
    payer = await first.funded()
    await first.inject("delayed_confirmation", node=node)
    levels = (await slots(second))[1:]
    transaction = pay(payer, Keypair().pubkey(), SOL, await second.blockhash())
    await second.send(transaction)
    open_slot = await first.slot()
    # Far enough that the transaction would be final.
    await first.reach(open_slot + FINALIZED_DEPTH_BLOCKS + 5)
    assert await second.slot() > open_slot, "processed goes on"
    assert (await slots(second))[1:] == levels
    status = await second.status(transaction.signatures[0])
    assert status is not None
    assert status["confirmationStatus"] == "processed"
    height = await second.height("finalized")
    if node is not None:
        await first.wait_for(transaction.signatures[0], "finalized")
    await first.clear_faults()
    await second.wait_for(transaction.signatures[0], "finalized")
    assert await second.height("finalized") > height + FINALIZED_DEPTH_BLOCKS


async def test_a_node_that_stands_still_lets_the_chain_go_on_and_forwards(nodes: Nodes) -> None:
    first, second = nodes
    payer = await first.funded()
    await first.inject("stuck", node=1)
    await first.reach(await second.slot() + 1)  # the slot in which it stands is over
    still = await slots(second)
    transaction = pay(payer, Keypair().pubkey(), SOL, await second.blockhash())
    await second.send(transaction)
    await first.wait_for(transaction.signatures[0], "finalized")
    assert await slots(second) == still
    assert await second.status(transaction.signatures[0], search=True) is None
    await first.clear_faults()
    assert await second.slot() > still[0]


async def test_no_slot_ends_while_the_chain_is_stuck_and_sends_wait_in_the_open_one(nodes: Nodes) -> None:
    first, second = nodes
    payer, recipient = await first.funded(), Keypair().pubkey()
    await first.stand_still()
    still = await slots(first)
    transaction = pay(payer, recipient, SOL, await first.blockhash())
    await first.send(transaction)
    await asyncio.sleep(3 * SLOT_SECONDS)  # time in which a chain that goes on would show it
    assert await slots(first) == await slots(second) == still
    status = await second.status(transaction.signatures[0])
    assert status is not None
    assert (status["slot"], status["confirmationStatus"]) == (still[0], "processed")
    assert await second.balance(recipient) == SOL
    await first.clear_faults()
    await first.wait_for(transaction.signatures[0], "confirmed", "finalized")


async def test_a_ledger_that_is_held_closes_its_slot_when_it_is_stopped(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "ledger.db", SLOT_SECONDS)
    ledger.hold_slots_while(lambda: True)
    height = ledger.view("processed").height
    slots = asyncio.create_task(ledger.run())
    await asyncio.sleep(0)  # until it waits for the end of the slot
    ledger.stop()
    await slots
    assert ledger.view("processed").height == height + 1
    assert ledger.view("confirmed").height == height - CONFIRMED_DEPTH_BLOCKS
    ledger.close()


async def test_a_stuck_ledger_can_be_stopped_and_keeps_what_was_sent(tmp_path: Path) -> None:
    recipient = Keypair().pubkey()
    async with running_cluster(tmp_path / "ledger.db", SLOT_SECONDS, with_faults=True) as (cluster, _):
        payer = await cluster.funded()
        await cluster.stand_still()
        await cluster.send(pay(payer, recipient, SOL, await cluster.blockhash()))
    async with running_cluster(tmp_path / "ledger.db", SLOT_SECONDS, with_faults=True) as (cluster, _):
        assert await cluster.balance(recipient) == SOL
        await cluster.reach(await cluster.slot() + 1)  # the fault went with the process
