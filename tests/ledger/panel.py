"""Several scripted nodes of one chain, one signed attempt, and the ledger that asks them all."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from solders.keypair import Keypair

from ledger.adapter import ConfirmedAt, SolanaLedger
from ledger.judging import BLOCKHASH_BLOCKS, MAX_UNFINAL_BLOCKS
from ledger.nodes import Nodes
from settlement.batches import SignedAttempt, Standing, Statement
from tests.ledger.scripted import (
    LAST_VALID,
    ScriptedChain,
    ScriptedNode,
    a_proof,
    a_statement,
    serving,
)


@dataclass
class Panel:
    """`chains` in the order in which the nodes are configured. What one shows is set there; by default all show the same."""

    chains: list[ScriptedChain]
    nodes: Nodes
    ledger: SolanaLedger
    statement: Statement
    attempt: SignedAttempt

    async def standing(self, *attempts: SignedAttempt) -> Standing:
        return (await self.ledger.judge(self.statement, attempts or [self.attempt])).standing

    def ledger_at(self, commitment: ConfirmedAt) -> SolanaLedger:
        return self.chains[0].ledger(self.nodes, commitment)

    async def sign(self, attempt: int = 1, statement: Statement | None = None) -> SignedAttempt:
        return await _signed(self.chains, self.ledger, statement or self.statement, attempt)

    def fails(self, position: int) -> None:
        """The node answers nothing from now on."""
        self.chains[position].node.body = lambda: web.Response(status=503)

    def calls(self, position: int) -> list[str]:
        return [method for method, _ in self.chains[position].node.calls]

    def forget_calls(self) -> None:
        for chain in self.chains:
            chain.node.calls.clear()


async def _signed(
    chains: Sequence[ScriptedChain], ledger: SolanaLedger, statement: Statement, attempt: int
) -> SignedAttempt:
    """Valid up to `LAST_VALID`: signed when the chain was so high that an honest node names just that."""
    heights = [chain.heights for chain in chains]
    for chain in chains:
        chain.heights = {**chain.heights, "finalized": LAST_VALID - BLOCKHASH_BLOCKS - MAX_UNFINAL_BLOCKS}
    try:
        return await ledger.sign(statement, a_proof(statement), attempt)
    finally:
        for chain, now in zip(chains, heights, strict=True):
            chain.heights = now


@asynccontextmanager
async def panel_of(count: int) -> AsyncGenerator[Panel]:
    authority, statement = Keypair(), a_statement()
    async with AsyncExitStack() as exits:
        served: list[ScriptedNode] = [await exits.enter_async_context(serving(ScriptedNode())) for _ in range(count)]
        chains = [ScriptedChain(node, authority) for node in served]
        nodes = await exits.enter_async_context(Nodes.at([node.url for node in served]))
        ledger = chains[0].ledger(nodes)
        attempt = await _signed(chains, ledger, statement, 1)
        panel = Panel(chains, nodes, ledger, statement, attempt)
        panel.forget_calls()
        yield panel
