"""What an operator sets up on a ledger before the first batch: config, circuits, houses, vaults, money in them.

Every `ensure_…` looks first and does only what is missing, so any of them can be interrupted and run again. It must never
change what is there already: what differs from what is wanted is an error that shows both. Nothing here is for settlements.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer

from ledger import instructions, layout
from ledger.adapter import is_expired
from ledger.landing import COMMITMENT, Job, Lander, Polling, has_confirmed
from ledger.rpc import Account, RequestRefused, RpcClient
from settlement.errors import LedgerMisconfigured, LedgerUnavailable
from settlement.shapes import Shape

VAULTS_PER_TRANSACTION: Final = 8
TRANSFERS_PER_TRANSACTION: Final = 16
PUBLIC_CLUSTERS: Final = {
    "5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d": "mainnet-beta",
    "EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxkZBBBG": "devnet",
    "4uhcVJyU9pJkvQyS88uRDiswHXSCkY3zQawwpjk2NsNY": "testnet",
}
"""By genesis hash (docs.anza.xyz/clusters/available)."""

_T = TypeVar("_T")


class Provisioner:
    """Sets up one ledger with the authority's key, which pays and rules the program.

    Every method raises `LedgerUnavailable`, or `LedgerMisconfigured` with the remedy.
    """

    def __init__(self, rpc: RpcClient, authority: Keypair, *, priority_fee_micro_lamports: int) -> None:
        self._rpc = rpc
        self._authority_key = authority.pubkey()
        self._lander = Lander(rpc, authority, priority_fee_micro_lamports=priority_fee_micro_lamports)

    async def ensure_config(self, program: Pubkey) -> bool:
        """Initialises the program with this authority; answers whether it had to."""
        account = await self._account(layout.config_address(program))
        if account is None or account.owner != program:
            key = self._authority_key
            await self._lander.land(
                [Job("initialising the program", [instructions.initialise(program, key, key, key)])]
            )
            return True
        found = layout.Config.decode(account.data).authority
        if found != self._authority_key:
            raise LedgerMisconfigured(
                f"program {program} on {self._rpc.name} obeys authority {found}, not {self._authority_key}: use the file"
                " of that key, or deploy under another program key"
            )
        return False

    async def ensure_circuit(self, program: Pubkey, shape: Shape, verifying_key: bytes) -> bool:
        """Registers a verifying key (`encode_verifying_key`) for a shape; answers whether it had to."""
        account = await self._account(layout.circuit_address(program, shape.circuit_id))
        if account is None or account.owner != program:
            register = instructions.register_circuit(
                program,
                self._authority_key,
                shape.circuit_id,
                bets=shape.bets,
                players=shape.players,
                verifying_key=verifying_key,
            )
            await self._lander.land([Job(f"registering circuit {shape.circuit_id}", [register])])
            return True
        found = layout.Circuit.decode(account.data)
        if (found.bets, found.players, found.verifying_key) != (shape.bets, shape.players, verifying_key):
            raise LedgerMisconfigured(
                f"circuit {shape.circuit_id} of program {program} on {self._rpc.name} is {found.bets}x{found.players} with"
                f" verifying key {_digest(found.verifying_key)}, not {shape.name} with {_digest(verifying_key)}: use the"
                " proving keys that belong to it (CROUPIER_CIRCUIT_KEYS), or deploy under another program key"
            )
        return False

    async def ensure_houses(self, program: Pubkey, lanes: int) -> int:
        """Opens the houses of lanes 0…`lanes`-1 that are not open; answers how many."""
        addresses = [layout.house_address(program, lane) for lane in range(lanes)]
        missing = await self._missing(program, addresses)
        await self._lander.land(
            [
                Job(f"opening the house of lane {lane}", [instructions.open_house(program, self._authority_key, lane)])
                for lane in missing
            ]
        )
        return len(missing)

    async def ensure_vaults(self, program: Pubkey, lane: int, players: Sequence[str]) -> int:
        """Opens the vaults that `players` (base58 keys) lack on the lane; answers how many."""
        owners = [Pubkey.from_string(player) for player in dict.fromkeys(players)]
        missing = await self._missing(program, [layout.vault_address(program, lane, owner) for owner in owners])
        opening = [instructions.open_vault(program, self._authority_key, lane, owners[at]) for at in missing]
        await self._lander.land([Job("opening vaults", chunk) for chunk in _chunks(opening, VAULTS_PER_TRANSACTION)])
        return len(missing)

    async def transfer(self, lamports: Mapping[Pubkey, int]) -> None:
        """Sends lamports from the authority to addresses: a house's bankroll, deposits into vaults.

        If it is interrupted, some may have arrived: look at `balances` before sending again.
        """
        transfers = [
            transfer(TransferParams(from_pubkey=self._authority_key, to_pubkey=address, lamports=amount))
            for address, amount in lamports.items()
        ]
        await self._lander.land([Job("sending SOL", chunk) for chunk in _chunks(transfers, TRANSFERS_PER_TRANSACTION)])

    async def balances(self, addresses: Sequence[Pubkey]) -> list[int]:
        """Lamports at each address, rent minimum included."""
        accounts = await self._rpc.accounts(addresses, COMMITMENT)
        return [account.lamports if account else 0 for account in accounts]

    async def airdrop(self, address: Pubkey, lamports: int) -> None:
        """Draws lamports from a local ledger's faucet. `LedgerMisconfigured` on any ledger that has none."""
        cluster = PUBLIC_CLUSTERS.get(await self._rpc.genesis_hash())
        if cluster is not None:
            raise LedgerMisconfigured(
                f"{self._rpc.name} is {cluster}, which has no faucet for Croupier: send {lamports} lamports to {address}"
            )
        try:
            signature = await self._rpc.request_airdrop(address, lamports)
        except RequestRefused as refusal:
            raise LedgerMisconfigured(f"{refusal}. Send {lamports} lamports to {address} yourself") from None
        # Which blockhash the faucet took is not told, but it cannot be newer than the newest one now.
        newest = await self._rpc.latest_blockhash("processed")
        polling = Polling(self._rpc.name, f"an airdrop of {lamports} lamports to {address}")
        while True:
            finalized = await self._rpc.epoch_info("finalized")
            [status] = await self._rpc.signature_statuses([signature])
            if has_confirmed(status):
                return
            if is_expired(status.value, status.slot, newest.last_valid_block_height, finalized):
                raise LedgerUnavailable(f"{self._rpc.name} has lost the airdrop {signature}: ask again")
            await polling.wait()

    async def _account(self, address: Pubkey) -> Account | None:
        return (await self._rpc.account(address, COMMITMENT)).value

    async def _missing(self, program: Pubkey, addresses: Sequence[Pubkey]) -> list[int]:
        """Positions of the addresses where the program has no account."""
        accounts = await self._rpc.accounts(addresses, COMMITMENT)
        return [at for at, account in enumerate(accounts) if account is None or account.owner != program]


def _chunks(items: Sequence[_T], size: int) -> list[Sequence[_T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
