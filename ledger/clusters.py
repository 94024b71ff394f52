"""Tells Croupier's own local ledger from every other: on it nothing is worth anything, so what is unsafe elsewhere is allowed there.

The local ledger says so itself, by a member of `getVersion` that no cluster has. Who chooses the node chooses whom to believe: this
guards against mistakes, not against an operator's own node that lies.
"""

from typing import Final

from ledger.rpc import RpcClient

PUBLIC_CLUSTERS: Final = {
    "5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d": "mainnet-beta",
    "EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxkZBBBG": "devnet",
    "4uhcVJyU9pJkvQyS88uRDiswHXSCkY3zQawwpjk2NsNY": "testnet",
}
"""By genesis hash (docs.anza.xyz/clusters/available)."""


async def is_local_ledger(rpc: RpcClient) -> bool:
    """Whether the node is Croupier's local ledger and its chain none of the public ones."""
    return (await rpc.version()).croupier_localnet and await rpc.genesis_hash() not in PUBLIC_CLUSTERS
