"""Deposits and withdrawals by `starter.py` as processes on a real local ledger: what moves, and what does not."""

import asyncio
import io
import json
import re
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from solders.keypair import Keypair

import composition
from commands import money
from commands.money import EARLIER_STATUS, SHOWN_PLAYERS
from embedded import processes
from embedded.site import ROOT
from journal.adapter import SqlJournal
from ledger import layout
from ledger.cosigning import NotAWithdrawal
from operations import transfers
from operations.balances import Balances, read_balances, show_balances
from operations.cover import BatchesUnsettled, WrongKey
from operations.outbox import TransferUnderWay
from settlement.batches import Claim, batch_id
from settlement.bets import Bet
from settlement.errors import CroupierError
from settlement.lifecycle import BatchStatus, Transition
from tests.e2e.machine import COMMAND_SECONDS, environment
from tests.journal.samples import NOON
from tests.money.bank import LANE, SOL, VAULT_BALANCE, Bank, Heard, Player

pytestmark = pytest.mark.usefixtures("in_this_process")

NOTHING_OF_THE_OPERATORS = {
    "CROUPIER_VAR": "absent",
    "CROUPIER_AUTHORITY_KEYPAIR": "absent/authority.json",
    "CROUPIER_JOURNAL_URL": "sqlite:///absent/journal.db",
}


async def claimed(bank: Bank, player: Player, name: str) -> str:
    """A batch with a lost bet of the player, claimed and not final."""
    bet = Bet(bet_id=name, player=player.key, stake=5_000, guess="heads", outcome="tails")
    batch = batch_id(LANE, [bet])
    step = Transition(sequence=0, status=BatchStatus.PENDING, at=NOON)
    async with SqlJournal.open(bank.variables["CROUPIER_JOURNAL_URL"]) as journal:
        await journal.claim(Claim(batch_id=batch, lane=LANE, bets=(bet,), transition=step, highest_on_chain=0))
    return batch


async def test_deposit_and_withdrawal_move_what_they_say(bank: Bank) -> None:
    player, friend = await bank.player(), bank.stranger()
    await bank.provisioner.transfer({friend.keypair.pubkey(): SOL})
    vault, outside, payer, authority = before = await bank.holds(
        bank.vault(player), player.keypair.pubkey(), friend.keypair.pubkey(), bank.authority.pubkey()
    )
    assert len(before) == 4

    done = await bank.starter("deposit", player.key, 30_000, "--from", friend.file, CROUPIER_COMMITMENT="")
    assert (done.status, done.err) == (0, "")
    assert "confirmed, not yet finalized\nfinalized in slot " in done.out
    assert f"the vault holds {VAULT_BALANCE + 30_000:,} lamports above rent" in done.out

    done = await bank.starter("withdraw", player.key, 10_000, "--keypair", player.file)
    assert (done.status, done.err) == (0, "")
    assert "finalized" not in done.out
    assert "confirmed in slot" in done.out

    after = await bank.holds(
        bank.vault(player), player.keypair.pubkey(), friend.keypair.pubkey(), bank.authority.pubkey()
    )
    assert after[:2] == [vault + 20_000, outside + 10_000]
    assert payer - 30_000 - 6_000 < after[2] < payer - 30_000, "lamports and fee"
    assert authority - 11_000 < after[3] < authority, "the fee of the withdrawal"
    assert bank.records == []


async def test_two_keys_that_never_meet_withdraw_together(bank: Bank, tmp_path: Path) -> None:
    player, stranger = await bank.player(), bank.stranger()
    file, log = tmp_path / "withdrawal.json", tmp_path / "operator.log"
    before = await bank.holds(bank.vault(player), player.keypair.pubkey())
    with environment(bank.variables):
        command = [sys.executable, "starter.py", "withdraw", player.key, "40000", "--out", str(file)]
        operator = await processes.start("withdraw", command, log=log, folder=ROOT)
    await operator.wait_for_line("Waiting for that", COMMAND_SECONDS)
    assert f"it can land until block {json.loads(file.read_text())['last_valid_block_height']:,}" in log.read_text()
    assert file.stat().st_mode & 0o077 == 0

    heard = Heard()
    tampered = tmp_path / "tampered.json"
    tampered.write_text(json.dumps({**json.loads(file.read_text()), "lane": 1}))
    with pytest.raises(WrongKey, match=f"is of {stranger.key}, not of {player.key}"):
        await transfers.co_sign(bank.settings, file, stranger.file, heard)
    with pytest.raises(NotAWithdrawal, match="do not sign it"):
        await transfers.co_sign(bank.settings, tampered, player.file, heard)
    with pytest.raises(TransferUnderWay):
        await transfers.withdraw(bank.settings, player.key, 1, player.file, heard, despite_unsettled=False)
    assert await bank.holds(bank.vault(player), player.keypair.pubkey()) == before

    done = await bank.starter("co-sign", file, "--keypair", player.file, **NOTHING_OF_THE_OPERATORS)
    assert (done.status, done.err) == (0, "")
    assert f"withdrawal of 40,000 lamports from vault {bank.vault(player)} (lane 0) to {player.key}" in done.out
    assert f"program {bank.program}; authority {bank.authority.pubkey()} pays the fee" in done.out
    assert await operator.process.wait() == 0, log.read_text()

    await transfers.co_sign(bank.settings, file, player.file, heard)  # the same bytes land once
    assert await bank.holds(bank.vault(player), player.keypair.pubkey()) == [before[0] - 40_000, before[1] + 40_000]
    assert bank.records == []


async def test_bankroll_goes_to_the_authority_and_not_below_rent(bank: Bank) -> None:
    house, authority = await bank.holds(bank.house, bank.authority.pubkey())
    available = house - await bank.rpc.rent_minimum(layout.HOUSE_BYTES)
    done = await bank.starter("withdraw-bankroll", LANE, SOL, "--despite-unsettled")
    assert (done.status, done.err) == (0, "")
    assert f"leaves it {available - SOL:,}" in done.out
    after = await bank.holds(bank.house, bank.authority.pubkey())
    assert after[0] == house - SOL
    assert authority + SOL - 6_000 < after[1] < authority + SOL

    for lane, lamports, said in (
        (LANE, available, f"has {available - SOL:,} lamports above rent, not {available:,}: withdraw less"),
        (9, 1, "lane 9 has no house"),
    ):
        with pytest.raises(CroupierError, match=re.escape(said)):
            await transfers.withdraw_bankroll(bank.settings, lane, lamports, Heard(), despite_unsettled=True)
    assert await bank.holds(bank.house) == after[:1]


async def test_unsettled_batches_hold_money_back_unless_told_otherwise(bank: Bank) -> None:
    player, other = await bank.player(), await bank.player()
    batch = await claimed(bank, player, "unsettled")
    before = await bank.holds(bank.house, bank.vault(player), bank.vault(other))

    async def withdraw(whose: Player, *, despite_unsettled: bool) -> None:
        await transfers.withdraw(
            bank.settings, whose.key, 1_000, whose.file, Heard(), despite_unsettled=despite_unsettled
        )

    async def draw(*, despite_unsettled: bool) -> None:
        await transfers.withdraw_bankroll(bank.settings, LANE, 1_000, Heard(), despite_unsettled=despite_unsettled)

    named = f"in batches that are not final and may need the money: {batch}. Wait until .*, or say --despite-unsettled"
    with pytest.raises(BatchesUnsettled, match=f"bets of {player.key} are {named}"):
        await withdraw(player, despite_unsettled=False)
    with pytest.raises(BatchesUnsettled, match=f"bets are {named}"):
        await draw(despite_unsettled=False)
    assert await bank.holds(bank.house, bank.vault(player), bank.vault(other)) == before

    await asyncio.gather(
        withdraw(player, despite_unsettled=True),
        withdraw(other, despite_unsettled=False),
        draw(despite_unsettled=True),
    )
    assert await bank.holds(bank.house, bank.vault(player), bank.vault(other)) == [held - 1_000 for held in before]


async def test_refusal_is_one_line_and_exit_status_1(bank: Bank) -> None:
    player = await bank.player()
    done = await bank.starter("withdraw", player.key, VAULT_BALANCE + 1, "--keypair", player.file)
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        f"starter: the vault of {player.key} has {VAULT_BALANCE:,} lamports above rent, not {VAULT_BALANCE + 1:,}:"
        " withdraw less\n"
    )


async def test_what_cannot_be_names_the_remedy_and_moves_nothing(bank: Bank, tmp_path: Path) -> None:
    player, poor, broke, new = await bank.player(), bank.stranger(), bank.stranger(), bank.stranger()
    await bank.provisioner.ensure_vaults(bank.program, LANE, [new.key])
    await bank.provisioner.transfer({bank.vault(new): SOL, broke.keypair.pubkey(): 1_000_000})
    addresses = (bank.vault(player), bank.vault(new), player.keypair.pubkey(), bank.authority.pubkey())
    before = await bank.holds(*addresses)
    exposed = tmp_path / "exposed.json"
    exposed.write_bytes(player.file.read_bytes())
    settings, heard = bank.settings, Heard()

    def deposit(key: str, payer: Path | None = None, lamports: int = 1) -> Awaitable[None]:
        return transfers.deposit(settings, key, lamports, payer, heard)

    def withdraw(player: Player, file: Path, lamports: int = 1_000, **changed: Any) -> Awaitable[None]:
        changed_settings = settings.model_copy(update=changed)
        return transfers.withdraw(changed_settings, player.key, lamports, file, heard, despite_unsettled=False)

    def hand_out(file: Path) -> Awaitable[None]:
        return transfers.hand_out(settings, player.key, 1_000, file, heard, despite_unsettled=False)

    no_vault = f"player {poor.key} has no vault on lane 0 of program {bank.program}: run `python starter.py open-vault"
    for refused, said in (
        (deposit("nobody"), "player nobody is"),
        (deposit(poor.key), no_vault),
        (
            deposit(player.key, poor.file),
            f"{poor.key} holds 0 lamports, which do not cover 1 and the fee: send it SOL, or",
        ),
        (deposit(player.key, broke.file, 999_999), f"{broke.key} cannot cover the transfer, its fee and its"),
        (deposit(player.key, broke.file, 200_000), "and its rent minimum on http://127.0.0.1:"),
        (deposit(player.key, tmp_path / "absent"), "absent does not exist: put the key there"),
        (withdraw(poor, poor.file), no_vault),
        (withdraw(player, poor.file), f"is of {poor.key}, not of {player.key}: name the file of the vault's owner"),
        (withdraw(player, exposed), "run `chmod 600"),
        (
            withdraw(new, new.file),
            f"{new.key} holds 0 lamports and would hold less than the 890,880 that an account must",
        ),
        (
            withdraw(player, player.file, authority_keypair=poor.file),
            f"obeys authority {bank.authority.pubkey()}, not {poor.key}: set CROUPIER_AUTHORITY_KEYPAIR",
        ),
        (withdraw(player, player.file, program_id=player.key), "is not deployed on"),
        (withdraw(player, player.file, rpc_url="http://127.0.0.1:1"), "nothing listens there"),
        (hand_out(bank.authority_file), "cannot be written: File exists; nothing was handed out"),
        (transfers.co_sign(settings, tmp_path / "absent", player.file, heard), "absent cannot be read: No such file"),
        (transfers.co_sign(settings, player.file, player.file, heard), "is not what `withdraw --out` writes: ask the"),
    ):
        with pytest.raises(CroupierError, match=re.escape(said)):
            await refused
    assert await bank.holds(*addresses) == before, "not even a fee"
    assert bank.records == []


async def test_a_command_that_is_killed_does_not_pay_twice(bank: Bank, tmp_path: Path) -> None:
    player = await bank.player()
    [before] = await bank.holds(bank.vault(player))
    with environment({**bank.variables, "CROUPIER_COMMITMENT": "finalized"}):
        command = [sys.executable, "starter.py", "deposit", player.key, "7000"]
        killed = await processes.start("deposit", command, log=tmp_path / "killed.log", folder=ROOT)
    await killed.wait_for_line("confirmed, not yet finalized", COMMAND_SECONDS)
    killed.process.kill()
    await killed.process.wait()
    [record] = bank.records
    signature = json.loads(record.read_text())["signature"]

    done = await bank.starter("deposit", player.key, 7_000)
    assert (done.status, done.err) == (EARLIER_STATUS, "")
    assert (
        f"the transfer that an earlier run had signed has landed ({signature}); no second one was made. It is a deposit of"
        f" 7,000 lamports for {player.key}" in done.out
    )
    assert "run it again to make another" in done.out.replace("\n", " ")
    assert await bank.holds(bank.vault(player)) == [before + 7_000]

    await transfers.deposit(bank.settings, player.key, 7_000, None, Heard())
    assert await bank.holds(bank.vault(player)) == [before + 14_000]


async def test_balances_need_neither_key_nor_journal(bank: Bank) -> None:
    player, without = await bank.player(), bank.stranger()
    as_json = await bank.starter("balances", player.key, without.key, "--json", **NOTHING_OF_THE_OPERATORS)
    assert (as_json.status, as_json.err) == (0, "")
    found = json.loads(as_json.out)
    assert [house["address"] for house in found["houses"]] == [str(bank.house)]
    assert [(vault["player"], vault["available"], vault["address"]) for vault in found["vaults"]] == [
        (player.key, VAULT_BALANCE, str(bank.vault(player))),
        (without.key, None, str(bank.vault(without))),
    ]

    shown = Console(width=160, record=True, file=io.StringIO())
    show_balances(shown, Balances.model_validate(found))
    table = shown.export_text()
    for word in (f"{VAULT_BALANCE:,}", "no vault", str(bank.house), str(bank.vault(player))):
        assert word in table


async def test_a_player_who_is_named_twice_is_shown_once(bank: Bank) -> None:
    player = bank.stranger()
    async with composition.open_reader(bank.settings) as reader:
        found = await read_balances(reader, bank.program, 1, [player.key, player.key])
    assert [vault.player for vault in found.vaults] == [player.key]


@pytest.mark.parametrize("there_are", [SHOWN_PLAYERS, SHOWN_PLAYERS + 1])
async def test_balances_say_if_there_are_more_players_than_are_shown(
    bank: Bank, monkeypatch: pytest.MonkeyPatch, there_are: int
) -> None:
    async def players(_journal: SqlJournal, limit: int) -> list[str]:
        return [str(Keypair().pubkey()) for _ in range(min(limit, there_are))]

    shown = Console(width=160, record=True, file=io.StringIO())
    monkeypatch.setattr(SqlJournal, "players", players)
    monkeypatch.setattr(money, "console", shown)
    for name, value in bank.variables.items():
        monkeypatch.setenv(name, value)
    assert await money.balances_of_all(as_json=False) == 0
    text = shown.export_text()
    assert text.count("no vault") == SHOWN_PLAYERS
    assert ("… and more: name them" in text) == (there_are > SHOWN_PLAYERS)
