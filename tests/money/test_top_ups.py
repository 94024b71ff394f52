"""A top-up is made once, wherever a run breaks off, and never on the strength of a balance that is about to change."""

import asyncio

import pytest
from solders.pubkey import Pubkey

from ledger import layout
from ledger.rpc import Account, RpcClient, Seen
from operations import top_ups
from operations.outbox import HighWater, OutboxUnusable, SignedTransfer, TransferUnderWay
from operations.top_ups import top_up
from operations.vaults import fund_vaults
from settlement.errors import LedgerUnavailable
from tests.money.bank import VAULT_BALANCE, Bank
from tests.money.killing import killed

pytestmark = pytest.mark.usefixtures("in_this_process")

MORE = 3_000


async def accounts(bank: Bank, count: int = 2) -> list[Pubkey]:
    return [bank.vault(await bank.player()) for _ in range(count)]


async def up_to(bank: Bank, held: dict[Pubkey, int], more: int = MORE) -> None:
    wanted = {address: lamports + more for address, lamports in held.items()}
    await top_up(bank.rpc, bank.authority, wanted, micro_lamports_per_unit=0)


async def balances(bank: Bank, addresses: list[Pubkey]) -> dict[Pubkey, int]:
    return dict(zip(addresses, await bank.holds(*addresses), strict=True))


def as_before(answer: Seen[list[Account | None]], held: dict[Pubkey, int], slot: int) -> Seen[list[Account | None]]:
    """What a node says that lags: the accounts as they were in an earlier slot."""
    stale = [
        account and account.model_copy(update={"lamports": lamports})
        for account, lamports in zip(answer.value, held.values(), strict=True)
    ]
    return answer.model_copy(update={"context": answer.context.model_copy(update={"slot": slot}), "value": stale})


@pytest.mark.parametrize("moment", ["after keeping", "after sending", "before forgetting"])
async def test_killed_and_run_again_at_once_pays_once(bank: Bank, moment: str) -> None:
    before = await balances(bank, await accounts(bank))
    with killed(moment):
        await up_to(bank, before)
    assert len(bank.records) == 1
    await up_to(bank, before)
    assert await balances(bank, list(before)) == {address: held + MORE for address, held in before.items()}
    assert bank.records == []


async def test_after_an_earlier_one_only_the_rest_is_paid(bank: Bank) -> None:
    before = await balances(bank, await accounts(bank))
    with killed("after sending"):
        await up_to(bank, before)
    await up_to(bank, before, MORE + 500)
    assert await balances(bank, list(before)) == {address: held + MORE + 500 for address, held in before.items()}


async def test_balances_are_looked_at_again_only_where_the_earlier_one_is_seen(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several nodes behind one address the next may lag."""
    before = await balances(bank, await accounts(bank))
    with killed("before forgetting"):
        await up_to(bank, before)
    seen = RpcClient.accounts_seen
    looks = 0

    async def lagging(rpc: RpcClient, *arguments: object) -> Seen[list[Account | None]]:
        nonlocal looks
        looks += 1
        answer = await seen(rpc, *arguments)  # pyright: ignore[reportArgumentType]
        if looks > 3:
            return answer
        return as_before(answer, before, slot=1)

    monkeypatch.setattr(RpcClient, "accounts_seen", lagging)
    await up_to(bank, before)
    assert looks > 3
    assert await balances(bank, list(before)) == {address: held + MORE for address, held in before.items()}


async def test_a_run_that_ended_well_is_remembered_where_the_next_one_asks_a_node_that_lags(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has left no record, and yet balances from before it must not count."""
    before = await balances(bank, await accounts(bank))
    await up_to(bank, before)
    assert bank.records == []
    seen = RpcClient.accounts_seen
    looks = 0

    async def lagging(rpc: RpcClient, *arguments: object) -> Seen[list[Account | None]]:
        nonlocal looks
        looks += 1
        answer = await seen(rpc, *arguments)  # pyright: ignore[reportArgumentType]
        if looks > 2:
            return answer
        landed = max(int(mark.name.split(".")[-2]) for mark in (bank.var / "transfers").glob("*.landed"))
        return as_before(answer, before, slot=landed - 1)

    monkeypatch.setattr(RpcClient, "accounts_seen", lagging)
    await up_to(bank, before)
    assert looks > 2
    assert await balances(bank, list(before)) == {address: held + MORE for address, held in before.items()}


async def test_a_record_stays_until_the_slot_in_which_its_transfer_landed_is_kept(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await balances(bank, await accounts(bank))

    def full(_: HighWater, slot: int) -> None:
        raise OutboxUnusable(f"no room for {slot}")

    with monkeypatch.context() as patch:
        patch.setattr(HighWater, "raise_to", full)
        with pytest.raises(OutboxUnusable, match="no room"):
            await up_to(bank, before)
    assert len(bank.records) == 1
    await up_to(bank, before)
    assert await balances(bank, list(before)) == {address: held + MORE for address, held in before.items()}
    assert bank.records == []


async def test_many_go_in_several_transactions_of_which_each_is_kept_first(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await balances(bank, await accounts(bank, 3))
    monkeypatch.setattr(top_ups, "TRANSFERS_PER_TRANSACTION", 1)
    monkeypatch.setattr(top_ups, "MAX_IN_FLIGHT", 2)
    send = RpcClient.send
    most = 0

    async def seen(rpc: RpcClient, raw: str) -> None:
        nonlocal most
        kept = [SignedTransfer.model_validate_json(record.read_text()).raw for record in bank.records]
        assert raw in kept
        most = max(most, len(kept))
        await send(rpc, raw)

    monkeypatch.setattr(RpcClient, "send", seen)
    await up_to(bank, before)
    assert most == 2
    assert await balances(bank, list(before)) == {address: held + MORE for address, held in before.items()}
    assert bank.records == []


async def test_of_two_at_once_the_second_is_told(bank: Bank) -> None:
    before = await balances(bank, await accounts(bank))
    ends = await asyncio.gather(up_to(bank, before), up_to(bank, before), return_exceptions=True)
    assert [type(end) for end in ends if end] == [TransferUnderWay]
    assert await balances(bank, list(before)) == {address: held + MORE for address, held in before.items()}


async def test_what_is_not_there_is_not_topped_up(bank: Bank) -> None:
    with pytest.raises(LedgerUnavailable, match="does not show account"):
        await up_to(bank, {Pubkey.new_unique(): 0})


async def test_opening_vaults_tops_up_by_way_of_the_outbox(bank: Bank) -> None:
    player, wanted = await bank.player(), VAULT_BALANCE + MORE
    with killed("after sending"):
        await fund_vaults(bank.settings, {player.key: wanted})
    for _ in range(2):
        await fund_vaults(bank.settings, {player.key: wanted})
    rent = await bank.rpc.rent_minimum(layout.VAULT_BYTES)
    assert await bank.holds(bank.vault(player)) == [rent + wanted]
