"""Tops accounts up from the authority's, each once: what an earlier run has signed is looked into, and then the balances.

It must never look at a balance while a top-up that would change it is under way, nor at one from before the last that has landed: it
would be made twice.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Final

from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer

from ledger.landing import Polling
from ledger.many import each_done
from ledger.provisioning import TRANSFERS_PER_TRANSACTION
from ledger.rpc import MAX_ACCOUNTS_PER_REQUEST, READ_COMMITMENT, RpcClient
from operations import outbox
from operations.once import Once
from settlement.errors import LedgerUnavailable

PURPOSE: Final = "top-up"
MAX_IN_FLIGHT: Final = 16
"""Transactions sent and not yet confirmed."""


class _Unheard:
    """Nobody listens: what matters of a top-up is what is there in the end."""

    def say(self, line: str) -> None:
        del line

    def show(self, line: str) -> None:
        del line


async def top_up(rpc: RpcClient, payer: Keypair, wanted: Mapping[Pubkey, int], *, micro_lamports_per_unit: int) -> None:
    """Returns when each account, which must exist, holds at least so many lamports, rent included.

    Raises `TransferUnderWay`, `OutboxUnusable`, `TransferRefused`, `LedgerUnavailable`; then it can be run again.
    """
    if not wanted:
        return
    with outbox.reserved(outbox.FOLDER, PURPOSE) as place:
        # Kept beyond the records: the node that is asked next may be one that has not seen the last of them land.
        landed = place.high_water(await rpc.genesis_hash())
        senders = [
            Once(rpc, place.part(number), READ_COMMITMENT, micro_lamports_per_unit, _Unheard(), landed)
            for number in range(MAX_IN_FLIGHT)
        ]
        pieces = _pieces(await _lacking(rpc, wanted, landed.slot()))
        if any(sender.place.file.exists() for sender in senders):
            same = {_what(payer.pubkey(), piece) for piece in pieces}
            await each_done([sender.settle_earlier(same) for sender in senders])
            # As it is after them.
            pieces = _pieces(await _lacking(rpc, wanted, landed.slot()))
        left = iter(pieces)
        await each_done([_send_all(sender, payer, left) for sender in senders])


async def _send_all(sender: Once, payer: Keypair, pieces: Iterator[Mapping[Pubkey, int]]) -> None:
    """Sends one of `pieces` after the other until none is left, which other senders take from, too."""
    for piece in pieces:
        await _send(sender, payer, piece)


async def _send(sender: Once, payer: Keypair, piece: Mapping[Pubkey, int]) -> None:
    transfers = [
        transfer(TransferParams(from_pubkey=payer.pubkey(), to_pubkey=address, lamports=lamports))
        for address, lamports in piece.items()
    ]
    await sender.send(_what(payer.pubkey(), piece), transfers, [payer])


async def _lacking(rpc: RpcClient, wanted: Mapping[Pubkey, int], from_slot: int) -> dict[Pubkey, int]:
    """What each account lacks, as of `from_slot` or later."""
    addresses = list(wanted)
    lacking: dict[Pubkey, int] = {}
    polling = Polling(rpc.name, f"the balances as of slot {from_slot:,}")
    for start in range(0, len(addresses), MAX_ACCOUNTS_PER_REQUEST):
        chunk = addresses[start : start + MAX_ACCOUNTS_PER_REQUEST]
        while (seen := await rpc.accounts_seen(chunk, READ_COMMITMENT)).slot < from_slot:
            await polling.wait()
        for address, account in zip(chunk, seen.value, strict=True):
            if account is None:
                raise LedgerUnavailable(f"{rpc.name} does not show account {address}, which was opened: run it again")
            if account.lamports < wanted[address]:
                lacking[address] = wanted[address] - account.lamports
    return lacking


def _pieces(lamports: Mapping[Pubkey, int]) -> list[dict[Pubkey, int]]:
    """As much of it at a time as one transaction moves."""
    items = list(lamports.items())
    return [
        dict(items[start : start + TRANSFERS_PER_TRANSACTION])
        for start in range(0, len(items), TRANSFERS_PER_TRANSACTION)
    ]


def _what(payer: Pubkey, piece: Mapping[Pubkey, int]) -> str:
    moved = " ".join(f"{address}+{lamports}" for address, lamports in piece.items())
    digest = hashlib.sha256(f"{payer} {moved}".encode()).hexdigest()
    return f"top-up of {len(piece)} accounts by {sum(piece.values()):,} lamports in all from {payer} (SHA-256 {digest})"
