"""Settles a few batches on a real ledger and records what it shows: honest, then with a batch settled twice, then with one from nowhere."""

import asyncio
import json
import urllib.request
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from solders.keypair import Keypair
from solders.pubkey import Pubkey

from chaos.checker import Deposits, Evidence, check, read_deposits
from journal.adapter import SqlJournal
from journal.migrate import upgrade
from ledger import layout
from ledger.deployment import Deployer
from ledger.provisioning import Provisioner
from ledger.rpc import RpcClient
from program.build import ARTEFACT
from settlement.batches import Claim, SignedAttempt, Standing, batch_id, statement_for
from settlement.bets import Bet, lane_of
from settlement.errors import LedgerUnavailable
from settlement.lifecycle import BatchStatus, Transition
from settlement.shapes import SHAPES
from tests.chaos.recorded import LANES, Recording, Run, made_bets
from tests.ledger.support import (
    HOUSE_BALANCE,
    PATIENCE_SECONDS,
    PRIORITY_FEE,
    SLOT_MILLISECONDS,
    SOL,
    VAULT_BALANCE,
    AnyProver,
    LocalNode,
    World,
    new_players,
    settled,
    unheard,
)

PLAYERS_PER_LANE: Final = 4
MAX_ATTEMPTS: Final = 10


@asynccontextmanager
async def small_world(folder: Path) -> AsyncGenerator[World]:
    """A ledger of its own, provisioned."""
    node, prover = LocalNode(folder / "ledger.db"), AnyProver(folder)
    await node.start()
    authority, program = Keypair(), Keypair()
    try:
        async with RpcClient(node.url) as rpc:
            provisioner = Provisioner(rpc, authority, priority_fee_micro_lamports=PRIORITY_FEE)
            await provisioner.airdrop(authority.pubkey(), 1_000 * SOL)
            deployer = Deployer(rpc, authority, priority_fee_micro_lamports=PRIORITY_FEE)
            await deployer.ensure_program(program, ARTEFACT.read_bytes(), unheard)
            await provisioner.ensure_config(program.pubkey())
            for shape in SHAPES:
                await provisioner.ensure_circuit(program.pubkey(), shape, prover.verifying_key)
            await provisioner.ensure_houses(program.pubkey(), LANES)
            yield World(node, rpc, provisioner, program.pubkey(), authority, prover)
    finally:
        await node.kill()


async def settled_run(world: World, folder: Path) -> Run:
    """Four batches on two lanes in three shapes, placed and settled; then more that were not placed."""
    players = await _opened_vaults(world)
    deposits = await _final_deposits(world)
    batches = {
        (0, 1): made_bets("small", players[0], 5),
        (0, 2): made_bets("usual", players[0], 34),
        (1, 1): made_bets("large", players[1], 70),
        (1, 2): made_bets("one", players[1], 1),
    }
    url = f"sqlite:///{folder / 'journal.db'}"
    await upgrade(url)
    async with SqlJournal.open(url) as journal:
        for (lane, number), bets in batches.items():
            claimed = await journal.claim(
                Claim(
                    batch_id=batch_id(lane, bets),
                    lane=lane,
                    bets=tuple(bets),
                    transition=Transition(sequence=0, status=BatchStatus.PENDING, at=datetime.now(UTC)),
                    highest_on_chain=0,
                )
            )
            assert claimed.number == number
    await asyncio.gather(*(_settle(world, lane, number, bets) for (lane, number), bets in batches.items()))
    file = folder / "bets.jsonl"
    file.write_text("".join(f"{bet.model_dump_json()}\n" for bets in batches.values() for bet in bets))
    live = await asyncio.to_thread(
        check,
        Evidence(
            rpc_url=world.node.url,
            program_id=str(world.program),
            journal=folder / "journal.db",
            sent=(file,),
            acknowledged=(file,),
            deposits=deposits,
            lanes=LANES,
        ),
    )
    honest = await _recording(world)
    await _settle(world, 0, 7, batches[0, 2])
    doubled = await _recording(world)
    await _settle(world, 1, 9, made_bets("strange", players[1], 3))
    strange = await _recording(world)
    return Run(str(world.program), folder / "journal.db", deposits, batches, live, honest, doubled, strange)


async def _opened_vaults(world: World) -> list[list[str]]:
    """Players by lane, with money in their vaults; the houses have some too."""
    await world.provisioner.transfer(
        {layout.house_address(world.program, lane): HOUSE_BALANCE for lane in range(LANES)}
    )
    players: list[list[str]] = []
    for lane in range(LANES):
        of_lane = [player for player in new_players(64) if lane_of(player, LANES) == lane][:PLAYERS_PER_LANE]
        await world.provisioner.ensure_vaults(world.program, lane, of_lane)
        vaults = [layout.vault_address(world.program, lane, Pubkey.from_string(player)) for player in of_lane]
        await world.provisioner.transfer(dict.fromkeys(vaults, VAULT_BALANCE))
        players.append(of_lane)
    return players


async def _final_deposits(world: World) -> Deposits:
    """Once everybody's money is final."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    while True:
        deposits = await asyncio.to_thread(read_deposits, world.node.url, str(world.program), LANES)
        if len(deposits.players) == LANES * PLAYERS_PER_LANE and min(deposits.players.values()) >= VAULT_BALANCE:
            return deposits
        assert asyncio.get_running_loop().time() < deadline, "the deposits do not become final"
        await asyncio.sleep(SLOT_MILLISECONDS / 1_000)


async def _settle(world: World, lane: int, number: int, bets: Sequence[Bet]) -> None:
    ledger = world.ledger()
    vaults = await ledger.vaults(lane, sorted({bet.player for bet in bets}))
    statement = statement_for(lane, number, bets, {player: vault.index for player, vault in vaults.items()})
    proof = world.prover.prove(statement)
    attempts: list[SignedAttempt] = []
    for nth in range(MAX_ATTEMPTS):
        # A blockhash lives for a second and a half here, which a busy machine may take between two requests.
        with suppress(LedgerUnavailable):
            attempts.append(await ledger.sign(statement, proof, nth))
            await ledger.broadcast(attempts[-1])
            if (await settled(ledger, statement, attempts)).standing is Standing.SETTLED:
                return
    raise AssertionError(f"batch {number} of lane {lane} does not land")


async def _recording(world: World) -> Recording:
    return await asyncio.to_thread(_record, world.node.url, str(world.program))


def _record(url: str, program: str) -> Recording:
    config = {"commitment": "finalized", "encoding": "base64", "withContext": True}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "getProgramAccounts", "params": [program, config]})
    request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        return Recording.of(json.load(response)["result"])
