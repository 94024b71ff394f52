"""Wherever a run breaks off, the next one finds out what it left, and nothing is paid twice or lost."""

import asyncio
import itertools
import os
from pathlib import Path

import pytest

from ledger.reading import ConfirmedAt
from ledger.rpc import RpcClient
from ledger.transfers import Fate, Flight, Listener, Outcome, TransferRefused, outcome
from operations import once, transfers
from operations.offers import Offer, OfferUnusable, read_offer
from operations.outbox import OutboxUnusable, Place, SignedTransfer, TransferUnderWay
from operations.transfers import EarlierRunLanded
from settlement.errors import LedgerUnavailable
from tests.money.bank import VAULT_BALANCE, Bank, Heard, Player
from tests.money.killing import Killed, killed

pytestmark = pytest.mark.usefixtures("in_this_process")


async def deposit(bank: Bank, player: Player, lamports: int = 5_000) -> Heard:
    heard = Heard()
    await transfers.deposit(bank.settings, player.key, lamports, None, heard)
    return heard


async def test_nothing_is_lost_when_killed_before_it_was_signed_for_good(bank: Bank) -> None:
    player = await bank.player()
    [before] = await bank.holds(bank.vault(player))
    with killed("before keeping"):
        await deposit(bank, player)
    assert await bank.holds(bank.vault(player)) == [before]
    await deposit(bank, player)
    assert await bank.holds(bank.vault(player)) == [before + 5_000]


@pytest.mark.parametrize("moment", ["after keeping", "after sending", "before forgetting"])
async def test_killed_and_run_again_pays_once(bank: Bank, moment: str) -> None:
    player = await bank.player()
    [before] = await bank.holds(bank.vault(player))
    with killed(moment):
        await deposit(bank, player)
    with pytest.raises(EarlierRunLanded, match="run it again to make another"):
        await deposit(bank, player)
    assert await bank.holds(bank.vault(player)) == [before + 5_000]
    await deposit(bank, player)
    assert await bank.holds(bank.vault(player)) == [before + 10_000]


async def test_the_bytes_are_kept_before_they_are_sent(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    player = await bank.player()
    send = RpcClient.send

    async def seen(rpc: RpcClient, raw: str) -> None:
        [record] = bank.records
        assert SignedTransfer.model_validate_json(record.read_text()).raw == raw
        await send(rpc, raw)

    monkeypatch.setattr(RpcClient, "send", seen)
    await deposit(bank, player)
    assert bank.records == []


async def test_what_expired_is_cleared_and_made_anew(bank: Bank) -> None:
    player = await bank.player()
    [before] = await bank.holds(bank.vault(player))
    with killed("after keeping"):
        await deposit(bank, player)
    [record] = bank.records
    kept = SignedTransfer.model_validate_json(record.read_text())
    record.write_text(kept.model_copy(update={"last_valid_block_height": 0}).model_dump_json())
    heard = await deposit(bank, player)
    assert any("the earlier one: " in line and "has expired without landing" in line for line in heard.said)
    assert await bank.holds(bank.vault(player)) == [before + 5_000]


async def test_what_failed_on_chain_is_cleared_and_made_anew(bank: Bank) -> None:
    player = await bank.player()
    [before] = await bank.holds(bank.vault(player))
    with killed("after keeping"):
        await deposit(bank, player)
    fates = iter([Outcome(Fate.FAILED, 7, "as told")])
    with pytest.MonkeyPatch.context() as monkeypatch:

        async def told(rpc: RpcClient, flight: Flight, commitment: ConfirmedAt, listener: Listener) -> Outcome:
            return next(fates, None) or await outcome(rpc, flight, commitment, listener)

        monkeypatch.setattr(once, "outcome", told)
        heard = await deposit(bank, player)
    assert any("has failed in slot 7: as told; only its fee was paid" in line for line in heard.said)
    assert await bank.holds(bank.vault(player)) == [before + 5_000]


@pytest.mark.parametrize("same", ["everything", "not the amount", "not the payer"])
async def test_an_earlier_one_is_sent_again_only_if_it_is_still_what_is_asked_for(bank: Bank, same: str) -> None:
    player = await bank.player()
    with killed("after keeping"):
        lamports, payer = 5_000 + (same == "not the amount"), player.file if same == "not the payer" else None
        await transfers.deposit(bank.settings, player.key, lamports, payer, Heard())
    [record] = bank.records
    kept = SignedTransfer.model_validate_json(record.read_text())
    flights: list[Flight] = []
    with pytest.MonkeyPatch.context() as monkeypatch:

        async def told(_rpc: RpcClient, flight: Flight, _commitment: ConfirmedAt, _listener: Listener) -> Outcome:
            flights.append(flight)
            return Outcome(Fate.EXPIRED if len(flights) == 1 else Fate.LANDED, 7)

        monkeypatch.setattr(once, "outcome", told)
        await deposit(bank, player)
    earlier, new = flights
    assert earlier == Flight(
        kept.signature, kept.raw if same == "everything" else None, kept.last_valid_block_height, kept.signed_after_slot
    )
    assert new.signature != earlier.signature
    assert new.raw is not None


async def test_a_node_that_dies_after_the_sending_leaves_the_record(bank: Bank) -> None:
    player = await bank.player()
    with pytest.MonkeyPatch.context() as dying:

        async def dead(*_: object) -> None:
            raise LedgerUnavailable("the node is dead")

        async def dies(_rpc: RpcClient, _raw: str) -> None:
            dying.setattr(RpcClient, "signature_statuses", dead)
            await dead()

        dying.setattr("ledger.landing.STALL_SECONDS", 0.05)
        dying.setattr(RpcClient, "send", dies)
        with pytest.raises(
            LedgerUnavailable, match=r"the node is dead\. The deposit of .* run it again to learn which"
        ):
            await deposit(bank, player)
    assert len(bank.records) == 1
    with pytest.raises(EarlierRunLanded):
        await deposit(bank, player)
    assert bank.records == []


async def test_a_node_that_dies_after_it_has_landed_does_not_make_it_look_failed(bank: Bank) -> None:
    """Whoever sees it fail runs it again, and pays twice."""
    player = await bank.player()
    forget = Place.forget
    with pytest.MonkeyPatch.context() as dying:

        async def dead(*_: object) -> None:
            raise LedgerUnavailable("the node is dead")

        def forgotten(place: Place) -> None:
            forget(place)
            dying.setattr(RpcClient, "accounts_seen", dead)

        dying.setattr(Place, "forget", forgotten)
        heard = await deposit(bank, player)
    assert heard.said[-1] == "what the vault holds now cannot be read: the node is dead"
    assert bank.records == []


async def test_of_two_at_once_the_second_is_told(bank: Bank) -> None:
    player = await bank.player()
    [before] = await bank.holds(bank.vault(player))
    done = await asyncio.gather(deposit(bank, player), deposit(bank, player), return_exceptions=True)
    assert {type(end) for end in done} == {Heard, TransferUnderWay}
    assert await bank.holds(bank.vault(player)) == [before + 5_000]


async def test_a_corrupt_record_stops_everything(bank: Bank) -> None:
    player = await bank.player()
    [before] = await bank.holds(bank.vault(player))
    record = bank.var / "transfers" / f"0-{player.key}-deposit.json"
    record.parent.mkdir(exist_ok=True)
    record.write_text("{")
    with pytest.raises(OutboxUnusable, match="remove the file"):
        await deposit(bank, player)
    assert record.read_text() == "{"
    assert await bank.holds(bank.vault(player)) == [before]
    record.unlink()


async def test_nothing_is_sent_when_the_record_cannot_be_kept(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    player = await bank.player()
    balances = await bank.holds(bank.vault(player), bank.authority.pubkey())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("operations.outbox.publish", full)
    with pytest.raises(OutboxUnusable, match="nothing was sent"):
        await deposit(bank, player)
    assert await bank.holds(bank.vault(player), bank.authority.pubkey()) == balances


async def test_a_record_of_another_cluster_is_not_judged_by_this_one(bank: Bank) -> None:
    player = await bank.player()
    with killed("after keeping"):
        await deposit(bank, player)
    [record] = bank.records
    kept = SignedTransfer.model_validate_json(record.read_text())
    record.write_text(kept.model_copy(update={"cluster": "another"}).model_dump_json())
    with pytest.raises(transfers.TransferRefused, match=r"genesis hash another; .* set CROUPIER_RPC_URL"):
        await deposit(bank, player)
    assert bank.records == [record]
    record.unlink()


async def test_what_was_handed_out_blocks_another_until_it_is_dead(bank: Bank, tmp_path: Path) -> None:
    """Two would pay twice, once the owner has signed both."""
    player = await bank.player()
    before = await bank.holds(bank.vault(player))
    file = tmp_path / "offer.json"
    with killed("after handing out"):
        await transfers.hand_out(bank.settings, player.key, 9_000, file, Heard(), despite_unsettled=False)
    second = asyncio.create_task(
        transfers.withdraw(bank.settings, player.key, 9_000, player.file, Heard(), despite_unsettled=False)
    )
    await transfers.co_sign(bank.settings, file, player.file, Heard())
    with pytest.raises(EarlierRunLanded, match="withdrawal of 9,000 lamports"):
        await second
    assert await bank.holds(bank.vault(player)) == [before[0] - 9_000]


async def handed_out(bank: Bank, player: Player, file: Path, lamports: int = 9_000) -> Offer:
    """An offer whose operator waits for nothing and blocks nobody any more."""
    with killed("after handing out"):
        await transfers.hand_out(bank.settings, player.key, lamports, file, Heard(), despite_unsettled=False)
    for record in bank.records:
        record.unlink()
    return read_offer(file)


@pytest.mark.parametrize("claimed", [0, 2**62])
async def test_an_offer_is_not_believed_how_long_it_lives(bank: Bank, tmp_path: Path, claimed: int) -> None:
    player, file = await bank.player(), tmp_path / "offer.json"
    offer = await handed_out(bank, player, file)
    file.write_text(offer.model_copy(update={"last_valid_block_height": claimed}).model_dump_json())
    flights: list[Flight] = []
    with pytest.MonkeyPatch.context() as monkeypatch:

        async def told(_rpc: RpcClient, flight: Flight, _commitment: ConfirmedAt, _listener: Listener) -> Outcome:
            flights.append(flight)
            return Outcome(Fate.LANDED, 7)

        monkeypatch.setattr(once, "outcome", told)
        await transfers.co_sign(bank.settings, file, player.file, Heard())
    newest = await bank.rpc.latest_blockhash("processed")
    [flight] = flights
    assert offer.last_valid_block_height <= flight.last_valid_block_height <= newest.last_valid_block_height


async def test_a_live_offer_that_claims_to_have_expired_lands(bank: Bank, tmp_path: Path) -> None:
    player, file = await bank.player(), tmp_path / "offer.json"
    [before] = await bank.holds(bank.vault(player))
    offer = await handed_out(bank, player, file)
    file.write_text(offer.model_copy(update={"last_valid_block_height": 0}).model_dump_json())
    await transfers.co_sign(bank.settings, file, player.file, Heard())
    assert await bank.holds(bank.vault(player)) == [before - 9_000]


async def test_an_offer_that_has_expired_is_said_to_be_at_once(bank: Bank, tmp_path: Path) -> None:
    player, file = await bank.player(), tmp_path / "offer.json"
    before = await bank.holds(bank.vault(player))
    offer = await handed_out(bank, player, file)
    with bank.fast():
        await bank.passes(offer.last_valid_block_height)
    height = (await bank.rpc.epoch_info("finalized")).block_height
    with pytest.raises(OfferUnusable, match="has expired without landing, no lamport moved: ask the operator"):
        await transfers.co_sign(bank.settings, file, player.file, Heard())
    waited_blocks = (await bank.rpc.epoch_info("finalized")).block_height - height
    assert waited_blocks < 150, "its own bound is enough, once the chain knows its blockhash no more"
    assert await bank.holds(bank.vault(player)) == before


async def test_an_offer_that_is_not_covered_any_more_is_not_sent(
    bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    player, file = await bank.player(), tmp_path / "offer.json"
    await handed_out(bank, player, file, VAULT_BALANCE)
    await transfers.withdraw(bank.settings, player.key, 9_000, player.file, Heard(), despite_unsettled=False)

    async def sent(_rpc: RpcClient, _raw: str) -> None:
        raise AssertionError

    monkeypatch.setattr(RpcClient, "send", sent)
    with pytest.raises(TransferRefused, match=r"refuses the withdrawal: WITHDRAWAL_UNCOVERED.*nothing was sent"):
        await transfers.co_sign(bank.settings, file, player.file, Heard())


async def test_what_is_handed_out_is_kept_before(bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    player, file = await bank.player(), tmp_path / "offer.json"

    def seen(_file: Path, _content: bytes) -> None:
        assert len(bank.records) == 1
        raise Killed

    monkeypatch.setattr(transfers, "publish", seen)
    with pytest.raises(Killed):
        await transfers.hand_out(bank.settings, player.key, 9_000, file, Heard(), despite_unsettled=False)
    [record] = bank.records
    record.unlink()


@pytest.mark.parametrize(("fails_at", "is_kept"), [(1, False), (2, True)])
async def test_the_record_stays_if_somebody_may_have_seen_the_offer(
    bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int, is_kept: bool
) -> None:
    player, file, sync = await bank.player(), tmp_path / "offer.json", os.fsync
    calls = itertools.count(1)

    def full(handle: int) -> None:
        if str(tmp_path) in os.readlink(f"/proc/self/fd/{handle}") and next(calls) == fails_at:
            raise OSError(28, "No space left on device")
        sync(handle)

    monkeypatch.setattr(os, "fsync", full)
    said = "wait 90 seconds" if is_kept else "nothing was handed out"
    with pytest.raises(OfferUnusable, match=f"No space left on device; .*{said}"):
        await transfers.hand_out(bank.settings, player.key, 9_000, file, Heard(), despite_unsettled=False)
    assert not file.exists()
    assert len(bank.records) == is_kept
    for record in bank.records:
        record.unlink()


async def test_a_record_that_is_removed_meanwhile_is_no_failure(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    player = await bank.player()
    [before] = await bank.holds(bank.vault(player))
    send = RpcClient.send

    async def removing(rpc: RpcClient, raw: str) -> None:
        await send(rpc, raw)
        for record in bank.records:
            record.unlink()

    monkeypatch.setattr(RpcClient, "send", removing)
    await deposit(bank, player)
    assert await bank.holds(bank.vault(player)) == [before + 5_000]


async def test_a_record_that_cannot_be_removed_does_not_make_it_look_failed(bank: Bank) -> None:
    player = await bank.player()
    unlink = Path.unlink
    with pytest.MonkeyPatch.context() as monkeypatch:

        def refused(path: Path, missing_ok: bool = False) -> None:
            if path.name.endswith("-deposit.json"):
                raise PermissionError(1, "Operation not permitted")
            unlink(path, missing_ok)

        monkeypatch.setattr(Path, "unlink", refused)
        heard = await deposit(bank, player)
    [record] = bank.records
    assert (
        f"done; the record {record} could not be removed (Operation not permitted), the next run clears it"
        in heard.said
    )
    with pytest.raises(EarlierRunLanded):
        await deposit(bank, player)
    assert bank.records == []
