"""The ledger as one node of the cluster shows it to one request.

The methods read and send through a node and never through the ledger itself, so that a node which is not in good order
(see `faulty_node`) is so to every method alike. A node must never change what the chain is, only what is seen of it.
"""

from collections.abc import Sequence
from typing import Final

from solders.account import Account
from solders.hash import Hash
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from .chain import Commitment, Sight, View
from .ledger import BlockPrices, Ledger, Simulation, Status
from .store import StoredTransaction
from .transactions import Sanitized, SupportedMessage

NODES: Final = 4
"""Nodes of the cluster that one process serves; all show the same chain."""


class Node:
    """A node in good order."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @property
    def genesis_hash(self) -> Hash:
        return self._ledger.genesis_hash

    @property
    def first_available_slot(self) -> int:
        return 0  # transactions are kept for good

    @property
    def _sight(self) -> Sight | None:
        """None: as far as there is something to see."""
        return None

    def view(self, commitment: Commitment) -> View:
        return self._ledger.view(commitment, self._sight)

    def account(self, key: Pubkey, view: View) -> Account | None:
        return self._ledger.account(key, view)

    def program_accounts(self, program: Pubkey, view: View) -> list[tuple[Pubkey, Account]]:
        return self._ledger.program_accounts(program, view)

    def blockhash_is_valid(self, blockhash: Hash, view: View) -> bool:
        return self._ledger.blockhash_is_valid(blockhash, view)

    def rent_exempt_minimum(self, data_bytes: int) -> int:
        return self._ledger.rent_exempt_minimum(data_bytes)

    def recent_prices(self) -> Sequence[BlockPrices]:
        return self._ledger.recent_prices(self.view("processed"))

    def status(self, signature: Signature, view: View) -> Status | None:
        """See `Ledger.status`."""
        return self._ledger.status(signature, view)

    def check_history(self) -> None:
        """Raises RpcError -32011 when the node keeps no history that could be searched."""

    async def transaction(self, signature: Signature, view: View) -> StoredTransaction | None:
        return await self._ledger.store.transaction(bytes(signature), view.slot)

    async def address_history(
        self, address: Pubkey, view: View, before: bytes | None, until: bytes | None, limit: int
    ) -> list[StoredTransaction]:
        """See `Store.address_history`."""
        return await self._ledger.store.address_history(address, view.slot, before, until, limit)

    def sanitize(self, transaction: VersionedTransaction, view: View) -> Sanitized:
        """Raises RpcError -32602; see `transactions.sanitize`."""
        return self._ledger.sanitize(transaction, view)

    def simulate(self, transaction: Sanitized, view: View) -> Simulation:
        return self._ledger.simulate(transaction, view)

    def fee_for_message(self, message: SupportedMessage, view: View) -> int | None:
        """See `Ledger.fee_for_message`."""
        return self._ledger.fee_for_message(message, view)

    async def forward(self, transaction: Sanitized) -> None:
        """Hand the transaction to the leader.

        Raises:
            TransactionRejected: it cannot land, and left no trace.
            RpcError: -32602, as `sanitize`.
        """
        await self._ledger.submit(transaction.transaction)

    async def airdrop(self, recipient: Pubkey, lamports: int, blockhash: Hash) -> Signature:
        """See `Ledger.airdrop`."""
        return await self._ledger.airdrop(recipient, lamports, blockhash)
