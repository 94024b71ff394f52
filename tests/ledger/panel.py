"""Several scripted nodes of one chain, one signed attempt, and the ledger that asks them all."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from solders.keypair import Keypair

from ledger.adapter import ConfirmedAt, SolanaLedger
from ledger.nodes import Nodes
from settlement.batches import SignedAttempt, Standing, Statement
from tests.ledger.scripted import (
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
        of = statement or self.statement
        return await self.ledger.sign(of, a_proof(of), attempt)

    def fails(self, position: int) -> None:
        """The node answers nothing from now on."""
        self.chains[position].node.body = lambda: web.Response(status=503)

    def calls(self, position: int) -> list[str]:
        return [method for method, _ in self.chains[position].node.calls]

    def forget_calls(self) -> None:
        for chain in self.chains:
            chain.node.calls.clear()


@asynccontextmanager
async def panel_of(count: int) -> AsyncGenerator[Panel]:
    authority, statement = Keypair(), a_statement()
    async with AsyncExitStack() as exits:
        served: list[ScriptedNode] = [await exits.enter_async_context(serving(ScriptedNode())) for _ in range(count)]
        chains = [ScriptedChain(node, authority) for node in served]
        nodes = await exits.enter_async_context(Nodes.at([node.url for node in served]))
        ledger = chains[0].ledger(nodes)
        attempt = await ledger.sign(statement, a_proof(statement), 1)
        panel = Panel(chains, nodes, ledger, statement, attempt)
        panel.forget_calls()
        yield panel
