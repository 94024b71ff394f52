"""One local ledger for all tests of the adapter, and a lane of its own for each."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from itertools import count

import pytest
from solders.keypair import Keypair

from ledger.deployment import Deployer
from ledger.provisioning import Provisioner
from ledger.rpc import RpcClient
from program.build import ARTEFACT
from settlement.shapes import SHAPES, Shape
from tests.ledger.panel import Panel, panel_of
from tests.ledger.support import (
    HOUSE_BALANCE,
    PRIORITY_FEE,
    SOL,
    VAULT_BALANCE,
    AnyProver,
    LocalNode,
    Table,
    World,
    new_players,
    unheard,
)

LANES = 60
"""More than there are tests that need one."""


@pytest.fixture(scope="session")
def prover(tmp_path_factory: pytest.TempPathFactory) -> AnyProver:
    return AnyProver(tmp_path_factory.mktemp("circuit"))


@pytest.fixture(scope="session")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalNode]:
    node = LocalNode(tmp_path_factory.mktemp("localnet") / "ledger.db")
    await node.start()
    yield node
    await node.kill()


@pytest.fixture(scope="session")
async def rpc(node: LocalNode) -> AsyncIterator[RpcClient]:
    async with RpcClient(node.url) as client:
        yield client


@pytest.fixture(scope="session")
async def world(node: LocalNode, rpc: RpcClient, prover: AnyProver) -> World:
    authority, program = Keypair(), Keypair()
    provisioner = Provisioner(rpc, authority, priority_fee_micro_lamports=PRIORITY_FEE)
    await provisioner.airdrop(authority.pubkey(), 10_000 * SOL)
    deployer = Deployer(rpc, authority, priority_fee_micro_lamports=PRIORITY_FEE)
    await deployer.ensure_program(program, ARTEFACT.read_bytes(), unheard)
    await provisioner.ensure_config(program.pubkey())
    for shape in SHAPES:
        await provisioner.ensure_circuit(program.pubkey(), shape, prover.verifying_key)
    await provisioner.ensure_houses(program.pubkey(), LANES)
    return World(node, rpc, provisioner, program.pubkey(), authority, prover)


@pytest.fixture(scope="session")
def lanes() -> Iterator[int]:
    return count()


@pytest.fixture
async def open_table(world: World, lanes: Iterator[int]) -> Callable[..., Awaitable[Table]]:
    """Opens a lane that no other test has, with so many players, for batches in shapes that may need lookup tables."""

    async def open_with(players: int, shapes: Sequence[Shape] = ()) -> Table:
        table = Table(world, next(lanes), new_players(players))
        assert table.lane < LANES
        await world.provisioner.ensure_vaults(world.program, table.lane, table.players, shapes)
        deposits = {table.vault(position): VAULT_BALANCE for position in range(players)}
        await world.provisioner.transfer({table.house: HOUSE_BALANCE, **deposits})
        return table

    return open_with


@pytest.fixture
async def table(open_table: Callable[[int], Awaitable[Table]]) -> Table:
    """Two players."""
    return await open_table(2)


@pytest.fixture
async def alone() -> AsyncIterator[Panel]:
    async with panel_of(1) as panel:
        yield panel


@pytest.fixture
async def pair() -> AsyncIterator[Panel]:
    async with panel_of(2) as panel:
        yield panel


@pytest.fixture
async def three() -> AsyncIterator[Panel]:
    async with panel_of(3) as panel:
        yield panel
