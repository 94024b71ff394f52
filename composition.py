"""The composition root: settings → adapters behind ports. Workers and commands get theirs here.

Beside it only `operations/` and `embedded/` know adapters: they set up what these need, and look at what they hold.
"""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from typing import TYPE_CHECKING, Final

from solders.pubkey import Pubkey

from journal.adapter import SqlJournal
from ledger.adapter import SolanaLedger
from ledger.keys import load_keypair
from ledger.lanes import require_lanes
from ledger.reading import ProgramReader
from ledger.rpc import RpcClient
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


def open_journal(settings: Settings) -> AbstractAsyncContextManager[SqlJournal]:
    """The journal that the settings name."""
    return SqlJournal.open(settings.journal_url)


@asynccontextmanager
async def open_reader(settings: Settings) -> AsyncGenerator[ProgramReader]:
    """What anybody may read of the program's accounts, without a key. Checked as in `open_ledger`."""
    async with ProgramReader(
        RpcClient(str(settings.rpc_url)), program_id(settings), commitment=settings.commitment.value
    ) as reader:
        await reader.check()
        yield reader


@asynccontextmanager
async def open_ledger(settings: Settings) -> AsyncGenerator[SolanaLedger]:
    """The ledger that the settings name, checked: the node answers, the program is there, obeys our key and has our lanes."""
    program, authority = program_id(settings), load_keypair(settings.authority_keypair)
    rpc = RpcClient(str(settings.rpc_url))
    async with SolanaLedger(
        rpc,
        program,
        authority,
        commitment=settings.commitment.value,
        priority_fee_micro_lamports=settings.priority_fee_micro_lamports,
    ) as ledger:
        await ledger.check()
        await require_lanes(rpc, program, settings.lanes)
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
    )
