"""Our prover by mix of traffic, and snarkjs on the same circuit, key and witness: in rounds by turns, so that what disturbs the machine
disturbs all of them.
"""

import tempfile
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Final

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from bench import prover, snarkjs
from bench.end_to_end import FULL, QUICK
from bench.site import Where, make_keys
from bench.snarkjs import Mode
from bench.traffic import Mix
from operations.provisioning import Progress
from prover.groth16 import Groth16Prover
from prover.inputs import circuit_signals, values_of
from prover.keys import key_files, load_keys, origin_in
from prover.witness import as_wtns
from settlement.batches import Statement
from settlement.circuits import KeyOrigin

ROUNDS: Final = 3
QUICK_ROUNDS: Final = 1


class ProverRates(BaseModel):
    """Bets a second, medians of `rounds`. `shape`, `bets`: of the full batch that `few` comes to, which snarkjs proves too."""

    model_config = ConfigDict(frozen=True)

    rounds: int
    threads: int
    by_mix: dict[Mix, float]
    shape: str
    bets: int
    snarkjs_single: float
    snarkjs_workers: float


async def measure(where: Where, progress: Progress, *, quick: bool) -> ProverRates:
    """Raises `CroupierError`."""
    snarkjs.ensure_installed()
    rounds = QUICK_ROUNDS if quick else ROUNDS
    batches = {
        plan.crowd.mix: prover.statements(plan.crowd, plan.lanes, plan.ceiling_batches)
        for plan in (QUICK if quick else FULL)
    }
    shapes = tuple({statement.shape: None for mix in batches.values() for statement in mix})
    make_keys(where.keys, shapes, progress)
    ours, theirs = defaultdict[Mix, list[float]](list), defaultdict[Mode, list[float]](list)
    full = max(batches[Mix.FEW], key=lambda statement: len(statement.entries))
    with closing(Groth16Prover(where.keys, shapes, prover.THREADS)) as groth16, tempfile.TemporaryDirectory() as folder:
        await groth16.load()
        zkey, witness = _snarkjs_files(where.keys, full, Path(folder))
        for number in range(rounds):
            progress("prover alone, and snarkjs", number / rounds)
            for mix, statements in batches.items():
                ours[mix].append(await prover.bets_per_second(groth16, statements))
            for mode in Mode:
                seconds = await snarkjs.seconds_per_proof(zkey, witness, mode)
                theirs[mode].append(len(full.entries) / seconds)
    progress("prover alone, and snarkjs", 1)
    return ProverRates(
        rounds=rounds,
        threads=prover.THREADS,
        by_mix={mix: round(median(rates), 1) for mix, rates in ours.items()},
        shape=full.shape.name,
        bets=len(full.entries),
        snarkjs_single=round(median(theirs[Mode.SINGLE]), 1),
        snarkjs_workers=round(median(theirs[Mode.WORKERS]), 1),
    )


def _snarkjs_files(keys: Path, statement: Statement, folder: Path) -> tuple[Path, Path]:
    """The key and the witness as snarkjs reads them."""
    witness = folder / "witness.wtns"
    program = load_keys(keys, statement.shape).witness_program
    witness.write_bytes(as_wtns(program.witness(values_of(circuit_signals(statement)))))
    origin = origin_in(keys, statement.shape) or KeyOrigin.DEVELOPMENT
    return key_files(keys, statement.shape, origin).proving_key, witness


def show(console: Console, rates: ProverRates) -> None:
    """A row for each prover."""
    table = Table(title=f"Provers alone, bets a second (medians of {rates.rounds})", title_justify="left")
    table.add_column("prover")
    table.add_column("bets a second", justify="right")
    for mix, rate in rates.by_mix.items():
        table.add_row(f"ours, {rates.threads} threads, mix {mix}", f"{rate:,}")
    table.add_row(f"snarkjs, single-threaded, {rates.bets} bets in {rates.shape}", f"{rates.snarkjs_single:,}")
    table.add_row(f"snarkjs with workers, {rates.bets} bets in {rates.shape}", f"{rates.snarkjs_workers:,}")
    console.print(table)
