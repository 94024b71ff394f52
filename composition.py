"""The composition root: settings → adapters behind ports. Workers and commands get theirs here.

Beside it only `operations/`, `embedded/` and `chaos/` know adapters: they set up what these need, and look at what they hold.
"""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from typing import TYPE_CHECKING, Final

from solders.pubkey import Pubkey

from journal.adapter import SqlJournal
from ledger.adapter import SolanaLedger
from ledger.fees import PriceBounds
from ledger.keys import load_keypair
from ledger.lanes import require_lanes
from ledger.lookup_tables import require_players_fit
from ledger.nodes import Nodes
from ledger.reading import ProgramReader
from ledger.rpc import display_name
from settings import InvalidSetting, Settings
from workflows.batcher import BatcherSettings

if TYPE_CHECKING:
    from prover.groth16 import Groth16Prover

PROGRAM_ID_REMEDY: Final = "it is the address that `python starter.py provision` prints"


def program_id(settings: Settings) -> Pubkey:
    """The settlement program's address. Raises `InvalidSetting` if none is set or it is no address."""
    if settings.program_id is None:
        raise InvalidSetting(f"CROUPIER_PROGRAM_ID is not set: {PROGRAM_ID_REMEDY}")
    try:
        return Pubkey.from_string(settings.program_id)
    except ValueError:
        raise InvalidSetting(
            f"CROUPIER_PROGRAM_ID is no address: {settings.program_id!r}; {PROGRAM_ID_REMEDY}"
        ) from None


def node_names(settings: Settings) -> list[str]:
    """The RPC nodes as they may be shown: providers put keys into addresses."""
    return [display_name(url) for url in settings.rpc_urls]


def open_journal(settings: Settings) -> AbstractAsyncContextManager[SqlJournal]:
    """The journal that the settings name."""
    return SqlJournal.open(settings.journal_url)


@asynccontextmanager
async def open_reader(settings: Settings) -> AsyncGenerator[ProgramReader]:
    """What anybody may read of the program's accounts, without a key. Checked as in `open_ledger`."""
    async with ProgramReader(
        Nodes.at(settings.rpc_urls), program_id(settings), commitment=settings.commitment.value
    ) as reader:
        await reader.check()
        yield reader


@asynccontextmanager
async def open_ledger(settings: Settings) -> AsyncGenerator[SolanaLedger]:
    """The ledger that the settings name, checked: the node answers, the program is there, obeys our key and has our lanes.

    Batches as large as is set are sure to fit into a transaction there.
    """
    program, authority = program_id(settings), load_keypair(settings.authority_keypair)
    nodes = Nodes.at(settings.rpc_urls)
    async with SolanaLedger(
        nodes,
        program,
        authority,
        commitment=settings.commitment.value,
        price=PriceBounds(settings.priority_fee_micro_lamports, settings.max_priority_fee_micro_lamports),
    ) as ledger:
        await ledger.check()
        await require_lanes(nodes, program, settings.lanes)
        await require_players_fit(nodes, program, settings.lanes, settings.max_batch_players)
        yield ledger


@asynccontextmanager
async def open_prover(settings: Settings) -> "AsyncGenerator[Groth16Prover]":
    """The prover, with the keys of the shapes in use in memory."""
    # Imported here, so that only a process that proves loads what is under the GPL.
    from prover.groth16 import Groth16Prover

    with closing(Groth16Prover(settings.circuit_keys, settings.shapes, settings.proving_threads)) as prover:
        await prover.load()
        yield prover


def batcher_settings(settings: Settings) -> BatcherSettings:
    """What a lane's Batcher needs to know."""
    return BatcherSettings(
        lanes=settings.lanes,
        window_seconds=settings.window_seconds,
        max_bets=settings.max_batch_bets,
        max_players=settings.max_batch_players,
        max_in_flight=settings.max_batches_in_flight,
        breaker_after=settings.breaker_after,
    )
