"""The embedded stack of a measurement: a fresh state directory, settings of its own, houses and vaults with money.

Nothing here is measured. It must never touch the state of another stack.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from solders.pubkey import Pubkey

import composition
from client.intake import TemporalIntake
from embedded.processes import ChildFailed
from embedded.site import CLUSTER_SLOT_MS, ROOT
from embedded.stack import Stack, running_stack
from ledger import layout
from ledger.keys import load_keypair
from ledger.nodes import Nodes
from ledger.provisioning import Provisioner
from operations.provisioning import LAMPORTS_PER_SOL, Progress, fill_up
from prover.making import KeyStage, make_development_keys
from settings import PREFIX, STACK_ENV, VAR, VAR_VARIABLE
from settlement.batches import OnChainBatch
from settlement.bets import lane_of
from settlement.shapes import Shape, shapes_for

BANKROLL_LAMPORTS: Final = LAMPORTS_PER_SOL
"""Of each house; the stakes of all bets of a run together are far below it."""

QUICK_SLOT_MS: Final = 50
AUTHORITY_LAMPORTS: Final = 80 * LAMPORTS_PER_SOL
"""Rent of vaults and tables, houses' bankrolls, players' deposits, fees."""


@dataclass(frozen=True)
class Where:
    """What every part of a run is told. `keys`: the proving keys' directory; `keep`: where stacks leave their state, if anywhere.

    `worker_command`: what runs the worker.
    """

    keys: Path
    keep: Path | None = None
    worker_command: tuple[str, ...] = (sys.executable, str(ROOT / "worker.py"))


@dataclass(frozen=True)
class Lanes:
    """How a stack is set up: settings that shape batches. Time-outs and retention are production's."""

    lanes: int
    max_batch_bets: int
    max_batch_players: int
    max_batches_in_flight: int
    window_seconds: float
    slot_ms: int = CLUSTER_SLOT_MS

    @property
    def quick(self) -> "Lanes":
        """With slots so short that nothing has to wait for the chain: of such a run no duration means anything."""
        return replace(self, slot_ms=QUICK_SLOT_MS)

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Those that its batches are proven in."""
        return shapes_for(self.max_batch_bets, self.max_batch_players)

    def environment(self) -> dict[str, str]:
        """As settings."""
        values = {
            "LANES": self.lanes,
            "WINDOW_SECONDS": self.window_seconds,
            "MAX_BATCH_BETS": self.max_batch_bets,
            "MAX_BATCH_PLAYERS": self.max_batch_players,
            "MAX_BATCHES_IN_FLIGHT": self.max_batches_in_flight,
        }
        return {f"{PREFIX}{name}": str(value) for name, value in values.items()}


@dataclass(frozen=True)
class BenchStack:
    """A running stack and its state directory."""

    stack: Stack
    folder: Path
    lanes: Lanes

    @property
    def journal(self) -> Path:
        return self.folder / "journal.db"

    @property
    def intake(self) -> TemporalIntake:
        return TemporalIntake(self.stack.client, composition.batcher_settings(self.stack.settings))

    @property
    def process_ids(self) -> dict[str, int]:
        """Of the stack's processes and of this one, the client."""
        return {"client": os.getpid(), **{child.name: child.process.pid for child in self.stack.children}}

    async def records(self) -> list[OnChainBatch]:
        """The batches that the chain holds for good."""
        async with composition.open_reader(self.stack.settings) as reader:
            return [record for lane in range(self.lanes.lanes) for record in await reader.batch_records(lane)]

    async def fund(self, deposits: Mapping[str, int], progress: Progress) -> None:
        """Gives each house a bankroll, and each player (base58 key) a vault on his lane that is given so many lamports."""
        settings = self.stack.settings
        program, authority = composition.program_id(settings), load_keypair(settings.authority_keypair)
        async with Nodes.at(settings.rpc_urls) as rpc:
            chain = Provisioner(rpc, authority, priority_fee_micro_lamports=settings.priority_fee_micro_lamports)
            await fill_up(chain, authority.pubkey(), AUTHORITY_LAMPORTS, AUTHORITY_LAMPORTS)
            players: dict[int, list[str]] = {lane: [] for lane in range(settings.lanes)}
            for player in deposits:
                players[lane_of(player, settings.lanes)].append(player)
            what = f"{len(deposits):,} vaults"
            progress(what, 0)
            await chain.ensure_vaults_on_lanes(program, players, settings.shapes)
            progress(what, 0.5)
            houses = {layout.house_address(program, lane): BANKROLL_LAMPORTS for lane in players}
            vaults = {
                layout.vault_address(program, lane, Pubkey.from_string(player)): deposits[player]
                for lane, of_lane in players.items()
                for player in of_lane
            }
            await chain.transfer({**houses, **vaults})
            progress(what, 1)


@asynccontextmanager
async def bench_stack(where: Where, name: str, lanes: Lanes, progress: Progress) -> AsyncGenerator[BenchStack]:
    """Runs a stack in a directory that is thrown away in the end, or kept as `where.keep`/`name`, which must not exist.

    Raises `ChildFailed`, or what provisioning raises.
    """
    if STACK_ENV.exists():
        raise ChildFailed(f"a stack runs on {VAR}, which would take part in the measurement: stop it first")
    make_keys(where.keys, lanes.shapes, progress)
    with _folder(where, name) as folder, _environment(lanes.environment() | {VAR_VARIABLE: str(folder)}):
        (folder / "circuits").symlink_to(where.keys.absolute())
        async with running_stack(
            folder,
            {},
            _renamed(progress, name),
            slot_ms=lanes.slot_ms,
            bankroll_lamports=0,
            worker_command=where.worker_command,
        ) as stack:
            yield BenchStack(stack, folder, lanes)


def make_keys(keys: Path, shapes: tuple[Shape, ...], progress: Progress) -> None:
    """Makes development keys that are missing."""

    def tell(shape: Shape, stage: KeyStage) -> None:
        if stage in (KeyStage.MAKING, KeyStage.MADE):
            progress(f"keys {shape.name}, for development", 0 if stage is KeyStage.MAKING else 1)

    make_development_keys(keys, shapes, tell)


def _renamed(progress: Progress, name: str) -> Progress:
    return lambda what, part: progress(f"{name}: {what}", part)


@contextmanager
def _folder(where: Where, name: str) -> Generator[Path]:
    if where.keep is None:
        with tempfile.TemporaryDirectory(prefix="croupier-bench-") as folder:
            yield Path(folder)
        return
    folder = where.keep / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    yield folder


@contextmanager
def _environment(values: Mapping[str, str]) -> Generator[None]:
    """Only these settings hold inside: what is set outside is for another stack."""
    outside = dict(os.environ)
    for name in outside:
        if name.startswith((PREFIX, "TEMPORAL_")):
            del os.environ[name]
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(outside)
