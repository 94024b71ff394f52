"""What a batch costs on chain: compute units, transaction bytes and fee, for every shape and how full its batches are.

Real proofs, signed and sent by `SolanaLedger` to a local ledger of its own, and what `getTransaction` says of them. The
proving keys are development keys: the figures do not depend on who made a key.
"""

import asyncio
import base64
import random
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from ledger import layout
from ledger.adapter import SolanaLedger
from ledger.deployment import Deployer
from ledger.fees import PriceBounds
from ledger.landing import Polling
from ledger.provisioning import Provisioner
from ledger.rpc import RpcClient
from localnet.server import serve
from operations.provisioning import LAMPORTS_PER_SOL, PROGRAM_FILE, Progress
from prover.groth16 import Groth16Prover
from prover.keys import load_verifying_key
from prover.making import KeyStage, make_development_keys
from settings import Settings
from settlement.batches import Standing, Statement, statement_for
from settlement.bets import Bet
from settlement.errors import LedgerUnavailable
from settlement.shapes import SHAPES, Shape, smallest_shape

LANE: Final = 0
SLOT_SECONDS: Final = 0.05
BATCHES_AT_ONCE: Final = 4
STAKE_LAMPORTS: Final = 1_000
PRIORITY_FEE_MICRO_LAMPORTS: Final = Settings.model_fields["priority_fee_micro_lamports"].default

QUICK_SHAPES: Final = SHAPES[:1]
QUICK_LEVELS: Final = 3


class Fill(NamedTuple):
    """How full a batch is."""

    bets: int
    players: int


class Cost(BaseModel):
    """What one batch cost. `tables`: lookup tables that its transaction names."""

    model_config = ConfigDict(frozen=True)

    shape: str
    bets: int
    players: int
    compute_units: int
    transaction_bytes: int
    tables: int
    fee_lamports: int

    @property
    def units_per_bet(self) -> int:
        """Rounded up."""
        return -(-self.compute_units // self.bets)


def fills(shape: Shape, levels: int | None = None) -> list[Fill]:
    """Every number of players at full bets, and fewer bets at full players, as far as batches so full get this shape.

    `levels`: only so many of them, evenly spread, the fullest included.
    """
    by_players = [Fill(shape.bets, players) for players in range(1, shape.players + 1)]
    by_bets = [Fill(shape.bets * quarter // 4, shape.players) for quarter in (1, 2, 3)]
    found = [
        fill
        for fill in (*by_bets, *by_players)
        if fill.bets >= fill.players and smallest_shape(fill.bets, fill.players) == shape
    ]
    return found if levels is None else [found[-1 - at * len(found) // levels] for at in range(levels)][::-1]


async def measure(keys_dir: Path, progress: Progress, *, quick: bool) -> list[Cost]:
    """The cost of a batch of each shape and fill; `quick`: of the smallest shape and a few fills only.

    Makes development keys that are missing in `keys_dir`. Raises `CroupierError`.
    """
    shapes = QUICK_SHAPES if quick else SHAPES
    plan = [(shape, fill) for shape in shapes for fill in fills(shape, QUICK_LEVELS if quick else None)]
    await asyncio.to_thread(_make_keys, keys_dir, shapes, progress)
    with tempfile.TemporaryDirectory() as folder, closing(Groth16Prover(keys_dir, shapes)) as prover:
        await prover.load()
        database = Path(folder) / "ledger.db"
        async with serve(database, "127.0.0.1", 0, SLOT_SECONDS) as running, RpcClient(running.url) as rpc:
            casino = await _Casino.open(rpc, keys_dir, shapes, progress)
            return await casino.settle_all(prover, plan, progress)


def _make_keys(keys_dir: Path, shapes: Sequence[Shape], progress: Progress) -> None:
    def tell(shape: Shape, stage: KeyStage) -> None:
        progress(f"keys {shape.name}, for development", 0 if stage is KeyStage.MAKING else 1)

    make_development_keys(keys_dir, shapes, tell)


class _Casino:
    """One lane on a fresh ledger with as many players as a batch can have, who have money."""

    def __init__(self, ledger: SolanaLedger, indices: dict[str, int]) -> None:
        self._ledger = ledger
        self._indices = indices

    @classmethod
    async def open(cls, rpc: RpcClient, keys_dir: Path, shapes: Sequence[Shape], progress: Progress) -> "_Casino":
        authority, program = Keypair(), Keypair()
        address = program.pubkey()
        provisioner = Provisioner(rpc, authority, priority_fee_micro_lamports=PRIORITY_FEE_MICRO_LAMPORTS)
        deployer = Deployer(rpc, authority, priority_fee_micro_lamports=PRIORITY_FEE_MICRO_LAMPORTS)
        await provisioner.airdrop(authority.pubkey(), 1_000 * LAMPORTS_PER_SOL)
        progress("program", 0)
        await deployer.ensure_program(
            program, PROGRAM_FILE.read_bytes(), lambda done, of: progress("program", done / max(of, 1))
        )
        await provisioner.ensure_config(address)
        progress("program", 1)
        progress("circuits, vaults, lookup tables", 0)
        for shape in shapes:
            await provisioner.ensure_circuit(address, shape, load_verifying_key(keys_dir, shape).encoded)
        await provisioner.ensure_houses(address, LANE + 1)
        players = [str(Keypair().pubkey()) for _ in range(max(shape.players for shape in shapes))]
        await provisioner.ensure_vaults(address, LANE, players, shapes)
        vaults = [layout.vault_address(address, LANE, Pubkey.from_string(player)) for player in players]
        await provisioner.transfer(dict.fromkeys([layout.house_address(address, LANE), *vaults], LAMPORTS_PER_SOL))
        progress("circuits, vaults, lookup tables", 1)
        ledger = SolanaLedger(
            rpc,
            address,
            authority,
            commitment="confirmed",
            price=PriceBounds(PRIORITY_FEE_MICRO_LAMPORTS, PRIORITY_FEE_MICRO_LAMPORTS),
        )
        opened = await ledger.vaults(LANE, players)
        return cls(ledger, {player: vault.index for player, vault in opened.items()})

    async def settle_all(
        self, prover: Groth16Prover, plan: Sequence[tuple[Shape, Fill]], progress: Progress
    ) -> list[Cost]:
        """Settles a batch for each line of the plan."""
        turns, done = asyncio.Semaphore(BATCHES_AT_ONCE), 0

        async def settle(number: int, shape: Shape, fill: Fill) -> Cost:
            nonlocal done
            async with turns:
                cost = await self._settle(prover, number, shape, fill)
                done += 1
                progress("batches", done / len(plan))
                return cost

        return await asyncio.gather(
            *(settle(number, shape, fill) for number, (shape, fill) in enumerate(plan, start=1))
        )

    async def _settle(self, prover: Groth16Prover, number: int, shape: Shape, fill: Fill) -> Cost:
        statement = self._statement(number, fill)
        assert statement.shape == shape
        attempt = await self._ledger.sign(statement, await prover.prove(statement), 1)
        await self._ledger.broadcast(attempt)
        polling = Polling("the local ledger", f"batch {number}")
        while (verdict := await self._ledger.judge(statement, [attempt])).standing is not Standing.SETTLED:
            await polling.wait()
        landing = verdict.landing
        if landing is None or landing.compute_units is None or landing.fee_lamports is None:
            raise LedgerUnavailable(f"the local ledger does not say what batch {number} has cost")
        wire = base64.b64decode(attempt.raw)
        message = VersionedTransaction.from_bytes(wire).message
        assert isinstance(message, MessageV0)
        return Cost(
            shape=shape.name,
            bets=fill.bets,
            players=fill.players,
            compute_units=landing.compute_units,
            transaction_bytes=len(wire),
            tables=len(message.address_table_lookups),
            fee_lamports=landing.fee_lamports,
        )

    def _statement(self, number: int, fill: Fill) -> Statement:
        source = random.Random(number)
        players = list(self._indices)[: fill.players]
        bets = [
            Bet(
                bet_id=f"bench-{number}-{at}",
                player=players[at % len(players)],
                stake=STAKE_LAMPORTS,
                guess="heads",
                outcome=source.choice(("heads", "tails")),
            )
            for at in range(fill.bets)
        ]
        return statement_for(LANE, number, bets, self._indices)


def show(console: Console, costs: Sequence[Cost]) -> None:
    """Each shape's full batch; full bets by the number of players; the range of all batches."""
    by_shape = {
        shape: [cost for cost in costs if cost.shape == shape] for shape in dict.fromkeys(cost.shape for cost in costs)
    }
    full = _table(
        "A full batch", "shape", "bets", "players", "compute units", "units a bet", "bytes", "tables", "fee in lamports"
    )
    every = _table(
        "Batches of every fill", "shape", "batches", "compute units", "units a bet", "bytes", "fee in lamports"
    )
    units_by_players = {shape: dict[int, int]() for shape in by_shape}
    for shape, of_shape in by_shape.items():
        bets = max(cost.bets for cost in of_shape)
        fullest = max((cost for cost in of_shape if cost.bets == bets), key=lambda cost: cost.players)
        full.add_row(shape, *(f"{value:,}" for value in (fullest.bets, fullest.players, *_figures(fullest))))
        units, per_bet, sizes, _, fees = zip(*map(_figures, of_shape), strict=True)
        every.add_row(shape, str(len(of_shape)), *map(_spread, (units, per_bet, sizes, fees)))
        units_by_players[shape] = {cost.players: cost.compute_units for cost in of_shape if cost.bets == bets}
    by_players = _table("Compute units with full bets", "players", "bytes", *by_shape)
    for players, size in sorted({cost.players: cost.transaction_bytes for cost in costs}.items()):
        found = [units_by_players[shape].get(players) for shape in by_shape]
        by_players.add_row(str(players), f"{size:,}", *("" if units is None else f"{units:,}" for units in found))
    console.print(by_players, full, every, "least / median / most")


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "shape" else "right")
    return table


def _figures(cost: Cost) -> tuple[int, int, int, int, int]:
    return cost.compute_units, cost.units_per_bet, cost.transaction_bytes, cost.tables, cost.fee_lamports


def _spread(values: Sequence[int]) -> str:
    return f"{min(values):,} / {median(values):,.0f} / {max(values):,}"
