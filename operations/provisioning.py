"""Sets up everything that a worker needs, or finds it there: journal, keys, program, houses, lookup tables,
circuits, search attributes.

Every step looks first and does only what is missing, so provisioning can be interrupted and repeated.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client

from journal.migrate import upgrade
from ledger import layout
from ledger.clusters import is_local_ledger
from ledger.deployed import deployed_program
from ledger.deployment import Deployer
from ledger.keys import load_or_create_keypair
from ledger.lanes import require_lanes
from ledger.lookup_tables import require_players_fit
from ledger.nodes import Nodes
from ledger.provisioning import Provisioner
from ledger.rpc import RpcClient
from operations.circuits import register_keys, usable_keys
from operations.top_ups import top_up
from prover.making import KeyStage
from settings import Settings
from settlement.circuits import CircuitKey
from settlement.shapes import Shape
from workflows.visibility import SEARCH_ATTRIBUTES

PROGRAM_FILE: Final = Path(__file__).parent.parent / "program" / "settlement.so"
SQLITE: Final = "sqlite:///"
LAMPORTS_PER_SOL: Final = 1_000_000_000
AUTHORITY_FLOOR_LAMPORTS: Final = 50 * LAMPORTS_PER_SOL
"""Below this a local ledger's faucet fills the authority up again; it pays fees, rent and deposits."""

AUTHORITY_FILL_LAMPORTS: Final = 100 * LAMPORTS_PER_SOL

Progress = Callable[[str, float], None]
"""Called with what is being done and which part of it is done (0…1)."""


class Provisioned(BaseModel):
    """What was set up or found. `program_id` belongs into CROUPIER_PROGRAM_ID."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    program_id: Pubkey
    authority: Pubkey
    circuits: tuple[CircuitKey, ...]


async def provision(settings: Settings, *, bankroll_lamports: int, faucet: bool, progress: Progress) -> Provisioned:
    """Brings journal, keys and chain to where a worker can start; `faucet`: draw lamports from a local ledger.

    `bankroll_lamports`: what each house is topped up to. Raises `CroupierError` with the remedy.
    """
    progress("journal", 0)
    if settings.journal_url.startswith(SQLITE):
        Path(settings.journal_url.removeprefix(SQLITE)).parent.mkdir(parents=True, exist_ok=True)
    await upgrade(settings.journal_url)
    progress("journal", 1)
    authority, program = (
        load_or_create_keypair(settings.authority_keypair),
        load_or_create_keypair(settings.program_keypair),
    )
    program_id = program.pubkey()
    async with Nodes.at(settings.rpc_urls) as rpc:
        keys = await usable_keys(settings, rpc, _telling(progress))
        await require_lanes(rpc, program_id, settings.lanes)
        chain = Provisioner(rpc, authority, priority_fee_micro_lamports=settings.priority_fee_micro_lamports)
        if faucet:
            await fill_up(chain, authority.pubkey(), AUTHORITY_FLOOR_LAMPORTS, AUTHORITY_FILL_LAMPORTS)
        progress("program", 0)
        deployer = Deployer(rpc, authority, priority_fee_micro_lamports=settings.priority_fee_micro_lamports)
        await _bring_program(deployer, program, rpc, lambda done, of: progress("program", done / max(of, 1)))
        await chain.ensure_config(program_id)
        progress("program", 1)
        await chain.ensure_houses(program_id, settings.lanes)
        if bankroll_lamports:
            houses = [layout.house_address(program_id, lane) for lane in range(settings.lanes)]
            price = settings.priority_fee_micro_lamports
            await top_up(rpc, authority, dict.fromkeys(houses, bankroll_lamports), micro_lamports_per_unit=price)
        # Before the circuits, without which no worker starts: what it cuts is sure to fit (`ledger.lookup_tables`).
        await require_players_fit(rpc, program_id, settings.lanes, settings.max_batch_players)
        await register_keys(
            chain,
            program_id,
            settings.lanes,
            keys,
            lambda done, of: progress("houses and lookup tables", done / of),
            lambda shape: progress("circuits", settings.shapes.index(shape) / len(keys)),
        )
        progress("circuits", 1)
    return Provisioned(program_id=program_id, authority=authority.pubkey(), circuits=tuple(keys))


async def register_search_attributes(client: Client) -> None:
    """Makes the namespace know the search attributes that workflows set."""
    known = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=client.namespace)
    )
    missing = {
        key.name: IndexedValueType.ValueType(key.indexed_value_type)
        for key in SEARCH_ATTRIBUTES
        if key.name not in known.custom_attributes
    }
    if missing:
        await client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(namespace=client.namespace, search_attributes=missing)
        )


async def _bring_program(
    deployer: Deployer, program: Keypair, rpc: RpcClient, progress: Callable[[int, int], None]
) -> None:
    """On a local ledger the code of an earlier release is upgraded without being asked: it belongs to whoever starts it."""
    code = PROGRAM_FILE.read_bytes()
    if await is_local_ledger(rpc) and await deployed_program(rpc, program.pubkey()) is not None:
        await deployer.ensure_code(program.pubkey(), code, progress)
    else:
        await deployer.ensure_program(program, code, progress)


async def fill_up(chain: Provisioner, address: Pubkey, floor_lamports: int, fill_lamports: int) -> None:
    """Draws from a local ledger's faucet if `address` holds less than the floor."""
    [balance] = await chain.balances([address])
    if balance < floor_lamports:
        await chain.airdrop(address, fill_lamports)


def _telling(progress: Progress) -> Callable[[Shape, KeyStage], None]:
    def tell(shape: Shape, stage: KeyStage) -> None:
        what = f"ceremony's keys {shape.name}"
        if stage is not KeyStage.CEREMONY:
            what = f"development keys {shape.name}, unsafe for funds"
        progress(what, 0 if stage is KeyStage.MAKING else 1)

    return tell
