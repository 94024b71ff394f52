"""A circuit whose batches need lookup tables is registered only where all vaults stand in them, whoever opens vaults at the same time."""

from collections.abc import Sequence

import pytest
from solders.pubkey import Pubkey

from ledger import layout
from ledger.lookup_tables import read_lane_tables
from ledger.provisioning import Provisioner
from operations import circuits
from operations.circuits import register_circuits
from operations.vaults import fund_vaults
from prover.keys import VerifyingKey
from settlement.circuits import KeyOrigin
from settlement.errors import LedgerMisconfigured
from settlement.shapes import DEFAULT_SHAPE, Shape
from tests.money.bank import LANE, Bank

pytestmark = pytest.mark.usefixtures("in_this_process")


class Key(VerifyingKey):
    """Never sent: these tests are about what is done before and after."""

    @property
    def encoded(self) -> bytes:
        return b""


class Registry:
    """Which circuits are registered, as a test has it."""

    def __init__(self) -> None:
        self.shapes: tuple[Shape, ...] = ()

    async def registered_shapes(self, program: Pubkey) -> tuple[Shape, ...]:
        del program
        return self.shapes

    async def ensure_circuit(self, program: Pubkey, shape: Shape, verifying_key: bytes) -> bool:
        del program, verifying_key
        added, self.shapes = shape not in self.shapes, (shape,)
        return added


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    registry = Registry()

    async def registered_shapes(_: Provisioner, program: Pubkey) -> tuple[Shape, ...]:
        return await registry.registered_shapes(program)

    async def ensure_circuit(_: Provisioner, program: Pubkey, shape: Shape, verifying_key: bytes) -> bool:
        return await registry.ensure_circuit(program, shape, verifying_key)

    def check_keys(_: object, shape: Shape) -> VerifyingKey:
        return Key(shape=shape, origin=KeyOrigin.DEVELOPMENT, sha256="", text="")

    monkeypatch.setattr(Provisioner, "registered_shapes", registered_shapes)
    monkeypatch.setattr(Provisioner, "ensure_circuit", ensure_circuit)
    monkeypatch.setattr(circuits, "check_keys", check_keys)
    return registry


async def named(bank: Bank) -> set[Pubkey]:
    """What a settlement can name through a table."""
    return (await read_lane_tables(bank.rpc, bank.program, LANE, "confirmed")).usable


def vault(bank: Bank, player: str) -> Pubkey:
    return layout.vault_address(bank.program, LANE, Pubkey.from_string(player))


def unheard(_: Shape) -> None:
    return


async def test_vaults_stand_in_tables_before_a_circuit_that_needs_them_is_registered_and_after_it(
    bank: Bank, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, late = (bank.stranger().key for _ in range(2))
    await bank.provisioner.ensure_vaults(bank.program, LANE, [before])
    ensure_circuit = registry.ensure_circuit
    stood: list[bool] = []

    async def beside_another_run(program: Pubkey, shape: Shape, verifying_key: bytes) -> bool:
        stood.append(vault(bank, before) in await named(bank))
        # By somebody to whom the circuit is not registered yet.
        await bank.provisioner.ensure_vaults(program, LANE, [late], registry.shapes)
        return await ensure_circuit(program, shape, verifying_key)

    monkeypatch.setattr(registry, "ensure_circuit", beside_another_run)
    assert [added for _, added in await register_circuits(bank.settings, [DEFAULT_SHAPE], unheard)] == [True]
    assert stood == [True]
    assert vault(bank, late) in await named(bank)


async def test_a_circuit_for_whose_batches_there_is_no_room_is_not_registered(
    bank: Bank, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(_: Provisioner, program: Pubkey, lane: int, shapes: Sequence[Shape]) -> int:
        del program
        assert (lane, DEFAULT_SHAPE in shapes) == (LANE, True)
        raise LedgerMisconfigured("no room")

    monkeypatch.setattr(Provisioner, "ensure_tables", refused)
    with pytest.raises(LedgerMisconfigured, match="no room"):
        await register_circuits(bank.settings, [DEFAULT_SHAPE], unheard)
    assert registry.shapes == ()


async def test_vaults_that_were_opened_while_a_circuit_was_registered_stand_in_the_tables_that_it_needs(
    bank: Bank, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_vaults = Provisioner.ensure_vaults

    async def beside_another_run(
        chain: Provisioner, program: Pubkey, lane: int, players: Sequence[str], shapes: Sequence[Shape] = ()
    ) -> int:
        opened = await ensure_vaults(chain, program, lane, players, shapes)
        registry.shapes = (DEFAULT_SHAPE,)
        return opened

    monkeypatch.setattr(Provisioner, "ensure_vaults", beside_another_run)
    player = bank.stranger().key
    await fund_vaults(bank.settings, {player: 0})
    assert vault(bank, player) in await named(bank)
