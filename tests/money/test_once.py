"""Wherever a run breaks off, the next one finds out what it left, and nothing is paid twice or lost."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ledger.reading import ConfirmedAt
from ledger.rpc import RpcClient
from ledger.transfers import Fate, Flight, Listener, Outcome, outcome
from operations import transfers
from operations.outbox import OutboxUnusable, Place, SignedTransfer, TransferUnderWay
from operations.transfers import EarlierRunLanded, OfferUnusable
from settlement.errors import LedgerUnavailable
from tests.money.bank import Bank, Heard, Player

pytestmark = pytest.mark.usefixtures("in_this_process")


class Killed(BaseException):
    """The process ends here."""


async def deposit(bank: Bank, player: Player, lamports: int = 5_000) -> Heard:
    heard = Heard()
    await transfers.deposit(bank.settings, player.key, lamports, None, heard)
    return heard


@contextmanager
def killed(moment: str) -> Generator[None]:
    """The run inside is killed at that moment."""
    keep, send = Place.keep, RpcClient.send

    def before_keeping(_place: Place, _transfer: SignedTransfer) -> None:
        raise Killed

    def after_keeping(place: Place, transfer: SignedTransfer) -> None:
        keep(place, transfer)
        raise Killed

    async def after_sending(rpc: RpcClient, raw: str) -> None:
        await send(rpc, raw)
        raise Killed

    async def after_handing_out(*_: object) -> None:
        raise Killed

    def before_forgetting(_place: Place) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as monkeypatch:
        match moment:
            case "before keeping":
                monkeypatch.setattr(Place, "keep", before_keeping)
            case "after keeping":
                monkeypatch.setattr(Place, "keep", after_keeping)
            case "after sending":
                monkeypatch.setattr(RpcClient, "send", after_sending)
            case "after handing out":
                monkeypatch.setattr(transfers, "_finish", after_handing_out)
            case _:
                monkeypatch.setattr(Place, "forget", before_forgetting)
        with pytest.raises(Killed):
            yield


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

        monkeypatch.setattr(transfers, "outcome", told)
        heard = await deposit(bank, player)
    assert any("has failed in slot 7: as told; only its fee was paid" in line for line in heard.said)
    assert await bank.holds(bank.vault(player)) == [before + 5_000]


@pytest.mark.parametrize(("asked_before", "is_sent_again"), [(5_000, True), (1_000_000, False)])
async def test_an_earlier_one_is_sent_again_only_if_it_is_still_what_is_asked_for(
    bank: Bank, asked_before: int, is_sent_again: bool
) -> None:
    player = await bank.player()
    with killed("after keeping"):
        await deposit(bank, player, asked_before)
    [record] = bank.records
    kept = SignedTransfer.model_validate_json(record.read_text())
    flights: list[Flight] = []
    with pytest.MonkeyPatch.context() as monkeypatch:

        async def told(_rpc: RpcClient, flight: Flight, _commitment: ConfirmedAt, _listener: Listener) -> Outcome:
            flights.append(flight)
            return Outcome(Fate.EXPIRED if len(flights) == 1 else Fate.LANDED, 7)

        monkeypatch.setattr(transfers, "outcome", told)
        await deposit(bank, player)
    earlier, new = flights
    assert earlier == Flight(
        kept.signature, kept.raw if is_sent_again else None, kept.last_valid_block_height, kept.signed_after_slot
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
            dying.setattr(RpcClient, "accounts", dead)

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


async def test_an_offer_that_claims_to_live_for_ever_is_not_waited_for_so_long(bank: Bank, tmp_path: Path) -> None:
    player = await bank.player()
    file = tmp_path / "offer.json"
    with killed("after handing out"):
        await transfers.hand_out(bank.settings, player.key, 9_000, file, Heard(), despite_unsettled=False)
    offer = transfers.Offer.model_validate_json(file.read_text())
    file.write_text(offer.model_copy(update={"last_valid_block_height": 2**62}).model_dump_json())
    flights: list[Flight] = []
    with pytest.MonkeyPatch.context() as monkeypatch:

        async def told(_rpc: RpcClient, flight: Flight, _commitment: ConfirmedAt, _listener: Listener) -> Outcome:
            flights.append(flight)
            return Outcome(Fate.LANDED, 7)

        monkeypatch.setattr(transfers, "outcome", told)
        await transfers.co_sign(bank.settings, file, player.file, Heard())
    newest = await bank.rpc.latest_blockhash("processed")
    assert [flight.last_valid_block_height <= newest.last_valid_block_height for flight in flights] == [True]
    for record in bank.records:
        record.unlink()


async def test_an_offer_that_has_expired_is_said_to_be(bank: Bank, tmp_path: Path) -> None:
    player = await bank.player()
    before = await bank.holds(bank.vault(player))
    file = tmp_path / "offer.json"
    with killed("after handing out"):
        await transfers.hand_out(bank.settings, player.key, 9_000, file, Heard(), despite_unsettled=False)
    offer = transfers.Offer.model_validate_json(file.read_text())
    file.write_text(offer.model_copy(update={"last_valid_block_height": 0}).model_dump_json())
    with pytest.MonkeyPatch.context() as monkeypatch:

        async def unsent(*_: object) -> None:
            return

        monkeypatch.setattr(RpcClient, "send", unsent)
        with pytest.raises(OfferUnusable, match="has expired without landing, no lamport moved: ask the operator"):
            await transfers.co_sign(bank.settings, file, player.file, Heard())
    assert await bank.holds(bank.vault(player)) == before
    for record in bank.records:
        record.unlink()
