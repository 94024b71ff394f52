"""What `kill -9` may take and what it may not, and what a level may show before the disk has it."""

import asyncio
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.transaction import VersionedTransaction

from localnet.chain import CONFIRMED_DEPTH_BLOCKS
from localnet.errors import LedgerUnusable
from localnet.ledger import FAUCET_LAMPORTS, LEADER_LAMPORTS, UNSTORED_BLOCKS_MAX, Ledger
from localnet.store import SlotWrites
from tests.localnet.support import (
    FEE,
    SOL,
    WAIT_SECONDS_MAX,
    Cluster,
    LocalnetProcess,
    connect,
    pay,
    running_cluster,
    until,
)

SLOT_MS = 20
SLOT_SECONDS = 0.02
FAST_SLOT_SECONDS = 0.005


async def total_lamports(cluster: Cluster) -> int:
    """Everything that was ever given out, as of a closed slot: the leader gets a slot's fees when it closes.

    Only system accounts hold money in these tests.
    """
    accounts = await cluster.result(
        "getProgramAccounts", str(SYSTEM_PROGRAM), {"encoding": "base64", "commitment": "confirmed"}
    )
    return sum(entry["account"]["lamports"] for entry in accounts)


@contextmanager
def stalled_disk(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """Nothing is stored meanwhile."""
    disk_free, commit = asyncio.Event(), ledger.store.commit

    async def slow_commit(slots: Sequence[SlotWrites]) -> None:
        await disk_free.wait()
        await commit(slots)

    monkeypatch.setattr(ledger.store, "commit", slow_commit)
    try:
        yield
    finally:
        disk_free.set()


async def test_kill_in_a_stream_of_transfers_loses_nothing_confirmed(tmp_path: Path) -> None:
    database = tmp_path / "ledger.db"
    recipient = Keypair().pubkey()
    sent: list[VersionedTransaction] = []
    confirmed: set[Signature] = set()
    process = await LocalnetProcess.start(database, SLOT_MS)
    async with connect(process.url) as cluster:
        genesis = await cluster.result("getGenesisHash")
        total = await total_lamports(cluster)
        assert total == FAUCET_LAMPORTS + LEADER_LAMPORTS
        payer = await cluster.funded()
        stop = asyncio.Event()

        async def send_transfers() -> None:
            while not stop.is_set():
                transaction = pay(payer, recipient, SOL // 1000 + len(sent), await cluster.blockhash())
                sent.append(transaction)  # first: the kill may come between its execution and the answer
                await cluster.send(transaction, skipPreflight=True)

        async def some_confirmed() -> bool:
            waiting = [entry.signatures[0] for entry in sent if entry.signatures[0] not in confirmed][:256]
            response = await cluster.result("getSignatureStatuses", [str(signature) for signature in waiting])
            confirmed.update(
                signature
                for signature, status in zip(waiting, response["value"], strict=True)
                if status is not None and status["confirmationStatus"] != "processed"
            )
            return len(confirmed) >= 150

        sender = asyncio.create_task(send_transfers())
        await until(some_confirmed)
        slot = await cluster.result("getSlot", {"commitment": "processed"})
        confirmed_slot = await cluster.result("getSlot", {"commitment": "confirmed"})
        finalized_slot = await cluster.result("getSlot", {"commitment": "finalized"})
        await process.kill()
        stop.set()
        await asyncio.gather(sender, return_exceptions=True)

    process = await LocalnetProcess.start(database, SLOT_MS)
    async with connect(process.url) as cluster:
        assert await cluster.result("getGenesisHash") == genesis
        assert await cluster.result("getSlot", {"commitment": "processed"}) > slot
        assert await cluster.result("getSlot", {"commitment": "confirmed"}) >= confirmed_slot
        assert await cluster.result("getSlot", {"commitment": "finalized"}) >= finalized_slot
        statuses = [await cluster.status(signature, search=True) for signature in confirmed]
        assert all(status is not None and status["err"] is None for status in statuses)
        assert await total_lamports(cluster) == total

        # What was only processed may be gone; its blockhash is still good, and what is there is not paid again.
        for transaction in sent:
            await cluster.send(transaction, skipPreflight=True)
        assert await cluster.balance(recipient) == sum(SOL // 1000 + index for index in range(len(sent)))
        assert await cluster.balance(payer.pubkey()) == 10 * SOL - (await cluster.balance(recipient)) - FEE * len(sent)
        assert await total_lamports(cluster) == total
        await cluster.wait_for(sent[-1].signatures[0], "finalized")
    assert await process.terminate() == (0, b"")


async def test_resending_after_a_restart_never_pays_twice(tmp_path: Path) -> None:
    recipient = Keypair().pubkey()
    async with running_cluster(tmp_path / "ledger.db", SLOT_SECONDS) as (cluster, _):
        payer = await cluster.funded()
        transaction = pay(payer, recipient, SOL, await cluster.blockhash())
        await cluster.send(transaction)
    async with running_cluster(tmp_path / "ledger.db", SLOT_SECONDS) as (cluster, _):
        status = await cluster.status(transaction.signatures[0])
        assert status is not None
        await cluster.send(transaction, skipPreflight=True)
        assert await cluster.balance(recipient) == SOL
        assert await cluster.result("isBlockhashValid", str(transaction.message.recent_blockhash))


async def test_reads_differ_by_commitment_also_after_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipient = Keypair().pubkey()

    async def balances(cluster: Cluster) -> list[int]:
        return [await cluster.balance(recipient, level) for level in ("finalized", "confirmed", "processed")]

    async with running_cluster(tmp_path / "ledger.db", SLOT_SECONDS) as (cluster, running):
        with stalled_disk(running.ledger, monkeypatch):
            signature = (await cluster.client.request_airdrop(recipient, SOL)).value
            assert await balances(cluster) == [0, 0, SOL]
            missing = await cluster.result("getAccountInfo", str(recipient), {"commitment": "finalized"})
            assert missing["value"] is None
        await cluster.wait_for(signature, "confirmed")
        assert await balances(cluster) == [0, SOL, SOL]
    async with running_cluster(tmp_path / "ledger.db", SLOT_SECONDS) as (cluster, _):
        assert await balances(cluster) == [0, SOL, SOL]
        await cluster.wait_for(signature, "finalized")
        assert await balances(cluster) == [SOL, SOL, SOL]


async def test_an_expired_blockhash_is_refused_and_its_statuses_stay_searchable(tmp_path: Path) -> None:
    async with running_cluster(tmp_path / "ledger.db", FAST_SLOT_SECONDS) as (cluster, _):
        payer, recipient = await cluster.funded(), Keypair().pubkey()
        latest = (await cluster.result("getLatestBlockhash", {"commitment": "confirmed"}))["value"]
        blockhash = await cluster.blockhash()
        landed, late = (pay(payer, recipient, lamports, blockhash) for lamports in (SOL, 2 * SOL))
        await cluster.send(landed)

        async def forgotten() -> bool:
            return await cluster.status(landed.signatures[0]) is None

        await until(forgotten)
        assert await cluster.result("getBlockHeight") > latest["lastValidBlockHeight"]
        found = await cluster.status(landed.signatures[0], search=True)
        assert found is not None
        assert (found["confirmationStatus"], found["confirmations"]) == ("finalized", None)
        assert await cluster.result("getFirstAvailableBlock") == 0, "nothing of the past is forgotten"
        valid = await cluster.result("isBlockhashValid", str(blockhash), {"commitment": "processed"})
        assert valid["value"] is False
        for transaction in (landed, late):
            await cluster.send(transaction, skipPreflight=True)
        assert await cluster.status(late.signatures[0], search=True) is None
        assert await cluster.balance(recipient) == SOL


async def test_nothing_is_confirmed_before_it_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most = UNSTORED_BLOCKS_MAX + CONFIRMED_DEPTH_BLOCKS + 1
    async with running_cluster(tmp_path / "ledger.db", SLOT_SECONDS) as (cluster, running):

        async def unconfirmed_slots() -> int:
            confirmed = await cluster.result("getSlot", {"commitment": "confirmed"})
            return await cluster.result("getSlot", {"commitment": "processed"}) - confirmed

        async def stands_still() -> bool:
            return await unconfirmed_slots() == most

        with stalled_disk(running.ledger, monkeypatch):
            signature = (await cluster.client.request_airdrop(Keypair().pubkey(), SOL)).value
            await until(stands_still)
            await asyncio.sleep(3 * SLOT_SECONDS)  # time in which a ledger without the rule would confirm
            status = await cluster.status(signature)
            assert status is not None
            assert status["confirmationStatus"] == "processed"
            assert await unconfirmed_slots() == most
        await cluster.wait_for(signature, "confirmed", "finalized")


async def test_slots_seen_before_a_crash_are_not_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger.open(tmp_path / "ledger.db", SLOT_SECONDS)

    async def never_commits(slots: Sequence[SlotWrites]) -> None:  # noqa: ARG001
        await asyncio.Event().wait()

    monkeypatch.setattr(ledger.store, "commit", never_commits)
    start = ledger.view("processed").slot
    slots = asyncio.create_task(ledger.run())

    async def some_slots() -> bool:
        return ledger.view("processed").slot >= start + UNSTORED_BLOCKS_MAX

    await until(some_slots)
    slots.cancel()
    await asyncio.gather(slots, return_exceptions=True)
    seen = ledger.view("processed")
    ledger.close()
    reopened = Ledger.open(tmp_path / "ledger.db", SLOT_SECONDS)
    assert reopened.view("processed").slot > seen.slot
    assert reopened.view("processed").height <= seen.height, "blocks that were lost are no blocks"
    reopened.close()


async def test_versions_before_the_root_leave_the_database(tmp_path: Path) -> None:
    recipient = Keypair().pubkey()
    async with running_cluster(tmp_path / "ledger.db", FAST_SLOT_SECONDS) as (cluster, _):
        payer = await cluster.funded(3 * SOL)
        for lamports in (SOL // 2, SOL // 4):
            await cluster.land(pay(payer, recipient, lamports, await cluster.blockhash()))
        rest = await cluster.balance(payer.pubkey()) - FEE
        signature = await cluster.send(pay(payer, recipient, rest, await cluster.blockhash()))
        await cluster.wait_for(signature, "finalized")
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:

        def versions(key: Pubkey) -> int:
            query = "SELECT count(*) FROM account_versions WHERE pubkey = ?"
            return connection.execute(query, (bytes(key),)).fetchone()[0]

        assert versions(recipient) == 1
        assert versions(payer.pubkey()) == 0, "an account that was emptied leaves nothing behind"


async def test_a_disk_that_refuses_stops_the_server(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnusable, match=r"cannot write .*ledger\.db"):  # noqa: PT012
        async with running_cluster(tmp_path / "ledger.db", SLOT_SECONDS) as (_, running):
            with closing(sqlite3.connect(tmp_path / "ledger.db")) as intruder:
                intruder.execute("DROP TABLE account_versions")
            await asyncio.wait({running.slots}, timeout=WAIT_SECONDS_MAX)
            assert running.slots.done()


async def test_history_is_paged_by_signature(tmp_path: Path) -> None:
    recipient = Keypair().pubkey()
    async with running_cluster(tmp_path / "ledger.db", SLOT_SECONDS) as (cluster, _):
        payer = await cluster.funded()
        blockhash = await cluster.blockhash()
        sent = [await cluster.send(pay(payer, recipient, SOL + n, blockhash)) for n in range(4)]
        await cluster.wait_for(sent[-1], "confirmed", "finalized")

        async def history(key: Pubkey, **config: object) -> list[str]:
            options = {"commitment": "confirmed", **config}
            return [entry["signature"] for entry in await cluster.result("getSignaturesForAddress", str(key), options)]

        newest_first = [str(signature) for signature in reversed(sent)]
        assert await history(recipient) == newest_first
        assert await history(recipient, limit=2) == newest_first[:2]
        assert await history(recipient, before=newest_first[1]) == newest_first[2:]
        assert await history(recipient, until=newest_first[2]) == newest_first[:2]
