"""What is looked at before a transfer is signed: that it is covered, that no bets need the money, and whose keys these are.

It signs and sends nothing.
"""

from pathlib import Path
from typing import Final

from solders.keypair import Keypair
from solders.pubkey import Pubkey

import composition
from ledger.keys import load_keypair
from ledger.rpc import READ_COMMITMENT, RpcClient
from ledger.transfers import PayerUncovered
from settings import Settings
from settlement.bets import check_player
from settlement.errors import CroupierError

NAMED_BATCHES: Final = 5
"""So many unsettled batches are named."""


class WrongKey(CroupierError):
    """A key file that holds somebody else's key."""


class WithdrawalUncovered(CroupierError):
    """More was asked for than there is above the rent minimum, or than the receiver's account can hold."""


class BatchesUnsettled(CroupierError):
    """Batches that are not final may need the money."""


async def check_payer(rpc: RpcClient, payer: Pubkey, lamports: int) -> None:
    """Raises `PayerUncovered`."""
    account = (await rpc.account(payer, READ_COMMITMENT)).value
    held = account.lamports if account else 0
    if held <= lamports:
        raise PayerUncovered(
            f"{payer} holds {held:,} lamports, which do not cover {lamports:,} and the fee: send it SOL, or let another key"
            " pay (--from)"
        )


def check_available(holder: str, available: int, lamports: int) -> None:
    """Raises `WithdrawalUncovered`."""
    if available < lamports:
        raise WithdrawalUncovered(
            f"the {holder} has {available:,} lamports above rent, not {lamports:,}: withdraw less"
        )


async def check_receiver(rpc: RpcClient, owner: Pubkey, lamports: int) -> None:
    """The runtime lets no account hold less than its rent minimum. Raises `WithdrawalUncovered`."""
    account = (await rpc.account(owner, READ_COMMITMENT)).value
    held, minimum = account.lamports if account else 0, await rpc.rent_minimum(0)
    if held + lamports < minimum:
        raise WithdrawalUncovered(
            f"{owner} holds {held:,} lamports and would hold less than the {minimum:,} that an account must: withdraw at"
            f" least {minimum - held:,}"
        )


async def check_unsettled(settings: Settings, lane: int, player: str | None, *, despite_unsettled: bool) -> None:
    """Raises `BatchesUnsettled` while bets (of one player, if named) are claimed in batches of the lane that are not final."""
    if despite_unsettled:
        return
    async with composition.open_journal(settings) as journal:
        batches = await journal.unsettled_batches(lane, player, NAMED_BATCHES + 1)
    if batches:
        named = ", ".join(batch.batch_id for batch in batches[:NAMED_BATCHES])
        more = " and others" if len(batches) > NAMED_BATCHES else ""
        whose = f"bets of {player}" if player else "bets"
        raise BatchesUnsettled(
            f"{whose} are in batches that are not final and may need the money: {named}{more}. Wait until"
            f" `python starter.py status` shows them Confirmed, or say --despite-unsettled"
        )


def owner_of(player: str, file: Path) -> Keypair:
    """The player's own key, from his file. Raises `WrongKey`."""
    check_player(player)
    owner = load_keypair(file)
    if str(owner.pubkey()) != player:
        raise WrongKey(f"key file {file} is of {owner.pubkey()}, not of {player}: name the file of the vault's owner")
    return owner
