"""Setting a ledger up: interrupted and run again, it ends in the same place, and it overrides nothing."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator

import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from ledger.clusters import PUBLIC_CLUSTERS
from ledger.layout import circuit_address, house_address, vault_address
from ledger.provisioning import Provisioner
from ledger.rpc import RpcClient
from settlement.errors import LedgerMisconfigured
from settlement.shapes import SHAPES
from tests.ledger.scripted import Refusal, ScriptedNode, serving
from tests.ledger.support import PRIORITY_FEE, SOL, World, new_players


@pytest.fixture
async def operator(rpc: RpcClient) -> Provisioner:
    """An operator with a key and SOL of his own."""
    authority = Keypair()
    provisioner = Provisioner(rpc, authority, priority_fee_micro_lamports=PRIORITY_FEE)
    await provisioner.airdrop(authority.pubkey(), 100 * SOL)
    return provisioner


async def test_what_is_set_up_already_is_not_set_up_again(world: World, lanes: Iterator[int]) -> None:
    provisioner, program, lane = world.provisioner, world.program, next(lanes)
    [player] = new_players(1)
    assert await provisioner.ensure_vaults(program, lane, [player, player]) == 1
    before = await provisioner.balances([world.authority.pubkey()])
    assert not await provisioner.ensure_config(program)
    for shape in SHAPES:
        assert not await provisioner.ensure_circuit(program, shape, world.prover.verifying_key)
    assert await provisioner.ensure_houses(program, 3) == 0
    assert await provisioner.ensure_vaults(program, lane, [player]) == 0
    assert await provisioner.balances([world.authority.pubkey()]) == before


async def test_another_verifying_key_under_a_circuits_id_is_refused_with_both_digests(world: World) -> None:
    other = bytes(len(world.prover.verifying_key))
    with pytest.raises(LedgerMisconfigured) as error:
        await world.provisioner.ensure_circuit(world.program, SHAPES[0], other)
    for key in (world.prover.verifying_key, other):
        assert hashlib.sha256(key).hexdigest() in str(error.value)


async def test_a_verifying_key_that_the_program_refuses_is_named(world: World) -> None:
    shape = SHAPES[0].model_copy(update={"circuit_id": 77})
    with pytest.raises(LedgerMisconfigured, match="registering circuit 77: VERIFYING_KEY"):
        await world.provisioner.ensure_circuit(world.program, shape, bytes(len(world.prover.verifying_key)))
    assert await world.provisioner.balances([circuit_address(world.program, 77)]) == [0]


async def test_another_operators_program_is_not_taken_over(world: World, operator: Provisioner) -> None:
    with pytest.raises(LedgerMisconfigured, match=f"obeys authority {world.authority.pubkey()}"):
        await operator.ensure_config(world.program)
    with pytest.raises(LedgerMisconfigured, match="WRONG_AUTHORITY"):
        await operator.ensure_vaults(world.program, 0, new_players(1))


async def test_many_vaults_open_in_several_transactions_each_with_its_own_index(
    world: World, lanes: Iterator[int]
) -> None:
    players, lane = new_players(20), next(lanes)
    assert await world.provisioner.ensure_vaults(world.program, lane, players) == 20
    vaults = await world.ledger().vaults(lane, players)
    assert sorted(vault.index for vault in vaults.values()) == list(range(1, 21))


async def test_equal_transfers_made_at_once_are_each_made(operator: Provisioner) -> None:
    [player] = new_players(1)
    address = Pubkey.from_string(player)
    await asyncio.gather(*(operator.transfer({address: SOL}) for _ in range(4)))
    assert await operator.balances([address]) == [4 * SOL]


async def test_a_transfer_beyond_the_balance_says_who_lacks_sol(operator: Provisioner) -> None:
    [player] = new_players(1)
    with pytest.raises(LedgerMisconfigured, match="cannot pay for sending SOL"):
        await operator.transfer({Pubkey.from_string(player): 1_000 * SOL})


async def test_deposits_and_bankrolls_arrive(world: World, lanes: Iterator[int]) -> None:
    players, lane = new_players(18), next(lanes)
    await world.provisioner.ensure_vaults(world.program, lane, players)
    vaults = [vault_address(world.program, lane, Pubkey.from_string(player)) for player in players]
    house = house_address(world.program, lane)
    before = await world.provisioner.balances([house, *vaults])
    await world.provisioner.transfer({house: 5, **{vault: at + 1 for at, vault in enumerate(vaults)}})
    after = await world.provisioner.balances([house, *vaults])
    assert [held - had for had, held in zip(before, after, strict=True)] == [5, *range(1, 19)]


@pytest.fixture
async def faucetless() -> AsyncIterator[tuple[ScriptedNode, Provisioner]]:
    async with serving(ScriptedNode()) as node, RpcClient(node.url) as client:
        yield node, Provisioner(client, Keypair(), priority_fee_micro_lamports=0)


@pytest.mark.parametrize("genesis", PUBLIC_CLUSTERS)
async def test_a_public_cluster_is_not_asked_for_an_airdrop(
    faucetless: tuple[ScriptedNode, Provisioner], genesis: str
) -> None:
    node, provisioner = faucetless
    node.answers["getGenesisHash"] = lambda _: genesis
    with pytest.raises(LedgerMisconfigured, match=f"is {PUBLIC_CLUSTERS[genesis]}.*send 5 lamports"):
        await provisioner.airdrop(Pubkey.default(), 5)
    assert node.called("requestAirdrop") == []


@pytest.mark.parametrize("code", [-32600, -32601, -32602])
async def test_a_ledger_without_a_faucet_says_so(faucetless: tuple[ScriptedNode, Provisioner], code: int) -> None:
    node, provisioner = faucetless

    def refuse(_: object) -> object:
        raise Refusal(code)

    node.answers |= {"getGenesisHash": lambda _: "a private ledger", "requestAirdrop": refuse}
    with pytest.raises(LedgerMisconfigured):
        await provisioner.airdrop(Pubkey.default(), 5)
