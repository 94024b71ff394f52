"""`starter.py circuit …`: the keys that batches are proven with, here and on chain."""

import asyncio
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.table import Table

from commands.running import console, run, say
from operations.circuits import CircuitsView, OnChain, look_at_circuits, register_circuits, write_key
from prover.importing import import_ceremony_key
from prover.keys import UNSAFE, load_verifying_key
from prover.making import KeyStage, make_development_keys
from settings import load_settings
from settlement.circuits import FOREIGN_CIRCUIT, CircuitKey, RegisteredCircuit
from settlement.shapes import SHAPES, Shape

SHOWN_DIGITS: Final = 16
"""Of a digest in a table; `--json` has all 64."""

NOT_LISTED: Final = "whether circuits of other ids are registered could not be found out"
"""By a node that does not list a program's accounts."""

_DOUBTS: Final[dict[OnChain, str]] = {
    "registered": "no key here to compare it with: compare it with the ceremony's",
    "another key": "NOT the key here: whoever made it may be able to settle anything",
}
"""What an operator must know of a circuit on chain that is not known to be his."""

app = typer.Typer(
    no_args_is_help=True,
    help="The keys that batches are proven with: list them, make them for development, import a ceremony's, export, register.",
)


def _shape(name: str | Shape) -> Shape:
    if isinstance(name, Shape):
        return name
    for shape in SHAPES:
        if shape.name == name:
            return shape
    raise typer.BadParameter(f"{name} is no shape: there are {', '.join(shape.name for shape in SHAPES)}")


def _sha256(text: str) -> str:
    if not re.fullmatch("[0-9a-fA-F]{64}", text):
        raise typer.BadParameter("a SHA-256 has 64 hexadecimal digits")
    return text.lower()


OneShape = Annotated[Shape, typer.Argument(parser=_shape, metavar="SHAPE", help="Bets x players, like 60x56.")]


@app.command("list")
def list_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with all digits of the digests.")] = False,
) -> None:
    """Show every shape: whether it is in use, its key and where that is from, and every circuit that is registered on chain."""
    run(_list(as_json))


@app.command()
def make(
    shapes: Annotated[
        list[Shape] | None,
        typer.Argument(parser=_shape, metavar="[SHAPE]...", help="None: those in use under the settings."),
    ] = None,
) -> None:
    """Make development keys, unsafe for funds: whoever makes them can forge proofs. Keys that are there stay as they are."""
    run(_make(shapes or []))


@app.command("import")
def import_command(
    shape: OneShape,
    file: Annotated[Path, typer.Argument(help="The ceremony's final .zkey file.")],
    sha256: Annotated[
        str, typer.Option(callback=_sha256, help="The file's SHA-256, as the ceremony has published it.")
    ],
    replace: Annotated[bool, typer.Option("--replace", help="Put it in the place of the key that is there.")] = False,
) -> None:
    """Import a ceremony's key: checked against its SHA-256 and the circuit, and tried, before it counts."""
    run(_import(shape, file, sha256, replace))


@app.command()
def export(
    shape: OneShape,
    out: Annotated[Path | None, typer.Option(help="Write to this file; else hexadecimal on standard output.")] = None,
    snarkjs: Annotated[bool, typer.Option("--snarkjs", help="As snarkjs' verification_key.json instead.")] = False,
) -> None:
    """Write the verifying key as it stands on chain (576 bytes). The SHA-256 of these bytes is its digest everywhere."""
    run(_export(shape, out, snarkjs))


@app.command()
def register(
    shapes: Annotated[
        list[Shape] | None,
        typer.Argument(parser=_shape, metavar="[SHAPE]...", help="None: those in use under the settings."),
    ] = None,
) -> None:
    """Register verifying keys on chain, with the authority's key. Safe to repeat; a key that differs is refused."""
    run(_register(shapes or []))


async def _list(as_json: bool) -> int:
    view = await look_at_circuits(load_settings())
    if as_json:
        console.print_json(view.model_dump_json())
    else:
        _show(view)
    return 0


def _show(view: CircuitsView) -> None:
    table = Table(title="Circuits", title_justify="left")
    for column in ("shape", "id", "in use", "key", "verifying key", "on chain"):
        table.add_column(column)
    notes: list[str] = []
    for circuit in view.circuits:
        key, origin = circuit.key, "none"
        if key is not None:
            origin = key.origin.remark + (f" {key.zkey_sha256[:SHOWN_DIGITS]}…" if key.zkey_sha256 else "")
        elif circuit.key_problem not in (None, "none"):
            origin = "not usable"
            notes.append(str(circuit.key_problem))
        on_chain = circuit.on_chain
        table.add_row(
            circuit.shape.name,
            str(circuit.shape.circuit_id),
            "yes" if circuit.in_use else "",
            origin,
            f"{key.sha256[:SHOWN_DIGITS]}…" if key is not None else "",
            f"{on_chain}, {circuit.registered[:SHOWN_DIGITS]}…" if circuit.registered else on_chain,
        )
    console.print(table)
    notes.append(
        f"what is on chain could not be read: {view.ledger_problem}"
        if view.place is None
        else f"on chain: {view.place}"
    )
    notes += [
        f"circuit {circuit.shape.circuit_id} ({circuit.shape.name}), verifying key {circuit.registered}: {doubt}"
        for circuit in view.circuits
        if (doubt := _DOUBTS.get(circuit.on_chain))
    ]
    notes += foreign_lines(view.foreign)
    if view.foreign_problem is not None:
        notes.append(f"{NOT_LISTED}: {view.foreign_problem}")
    for note in notes:
        say(note)


def foreign_lines(circuits: Sequence[RegisteredCircuit]) -> list[str]:
    """A line for each circuit that is none of this release's."""
    return [
        f"circuit {circuit.circuit_id} ({circuit.bets}x{circuit.players}), verifying key {circuit.sha256}: {FOREIGN_CIRCUIT}"
        for circuit in circuits
    ]


async def _make(shapes: Sequence[Shape]) -> int:
    settings = load_settings()
    say(f"keys for {UNSAFE}; whoever makes them can forge proofs")

    def tell(shape: Shape, stage: KeyStage) -> None:
        say(f"{shape.name}: {stage}{', so no development key is made' if stage is KeyStage.CEREMONY else ''}")

    wanted = shapes or settings.shapes
    await asyncio.to_thread(make_development_keys, settings.circuit_keys, wanted, tell)
    for shape in wanted:
        _tell_key(load_verifying_key(settings.circuit_keys, shape))
    return 0


async def _import(shape: Shape, file: Path, sha256: str, replace: bool) -> int:
    settings = load_settings()
    with console.status(f"checking {file} and trying it…"):
        key = await asyncio.to_thread(import_ceremony_key, settings.circuit_keys, shape, file, sha256, replace=replace)
    _tell_key(key)
    return 0


async def _export(shape: Shape, out: Path | None, snarkjs: bool) -> int:
    key = load_verifying_key(load_settings().circuit_keys, shape)
    if out is not None:
        write_key(key.text.encode() if snarkjs else key.encoded, out)
        _tell_key(key)
        return 0
    # Nothing else on standard output: it may be a pipe.
    print(key.text if snarkjs else key.encoded.hex())
    print(_line(key), file=sys.stderr)
    return 0


async def _register(shapes: Sequence[Shape]) -> int:
    settings = load_settings()
    wanted = shapes or settings.shapes
    with console.status("registering…") as status:
        registered = await register_circuits(
            settings, wanted, lambda shape: status.update(f"registering {shape.name}…")
        )
    for key, added in registered:
        say(f"circuit {key.shape.name}: {'registered' if added else 'was registered already'}")
        _tell_key(key)
    return 0


def _tell_key(key: CircuitKey) -> None:
    say(_line(key))


def _line(key: CircuitKey) -> str:
    zkey = f", zkey {key.zkey_sha256}" if key.zkey_sha256 else ""
    return f"circuit {key.shape.name}: verifying key {key.sha256} ({key.origin.remark}{zkey})"
