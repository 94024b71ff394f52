"""Two nodes of a real local ledger with the real program, asked as one deployment would ask them."""

from collections.abc import AsyncIterator

import pytest

from ledger.adapter import SolanaLedger
from ledger.fees import PriceBounds
from ledger.nodes import Nodes
from settlement.batches import Standing
from tests.ledger.support import MAX_PRIORITY_FEE, PRIORITY_FEE, Table, World, settled

NETS = [1_000, -3_000]


@pytest.fixture
async def ledger(world: World) -> AsyncIterator[SolanaLedger]:
    async with Nodes.at([world.node.url, f"{world.node.url}/nodes/1"]) as nodes:
        yield SolanaLedger(
            nodes,
            world.program,
            world.authority,
            commitment="finalized",
            price=PriceBounds(PRIORITY_FEE, MAX_PRIORITY_FEE),
        )


async def test_two_nodes_settle_a_batch_once_and_agree_on_it(world: World, table: Table, ledger: SolanaLedger) -> None:
    before = await table.balances()
    statement = await table.statement(NETS)
    await ledger.check()
    attempt = await ledger.sign(statement, world.prover.prove(statement), 0)
    await ledger.broadcast(attempt)
    verdict = await settled(ledger, statement, [attempt])
    assert (verdict.standing, verdict.final) == (Standing.SETTLED, True)
    assert [after - held for held, after in zip(before, await table.balances(), strict=True)] == [2_000, *NETS]


async def test_two_nodes_agree_that_what_was_never_sent_has_expired(
    world: World, table: Table, ledger: SolanaLedger
) -> None:
    statement = await table.statement(NETS)
    attempt = await ledger.sign(statement, world.prover.prove(statement), 0)
    assert (await settled(ledger, statement, [attempt])).standing is Standing.NONE_LIVE
