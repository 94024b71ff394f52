"""`python -m ceremony`: the steps of a ceremony one by one, and a rehearsal of all of them on one machine."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from ceremony import snarkjs, steps
from ceremony.snarkjs import StepFailed
from prover.contributions import REHEARSAL_BEACON
from prover.keys import file_digest
from settlement.errors import CroupierError
from settlement.shapes import SHAPES, Shape

ROOT: Final = Path(__file__).parent.parent
REHEARSERS: Final = ("first contributor", "second contributor")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Makes a circuit's keys so that nobody can forge proofs if at least one contributor in each phase is honest (docs/ceremony.md).",
)


def _shape(name: str | Shape) -> Shape:
    for shape in SHAPES:
        if name in (shape.name, shape):
            return shape
    raise typer.BadParameter(f"{name} is no shape: there are {', '.join(shape.name for shape in SHAPES)}")


def _beacon(text: str | None) -> str | None:
    if text is None:
        return None
    if len(text) % 2 or not text or set(text) - set("0123456789abcdefABCDEF"):
        raise typer.BadParameter("a beacon is bytes in hexadecimal")
    return text


OneShape = Annotated[Shape, typer.Argument(parser=_shape, metavar="SHAPE", help="Bets x players, like 60x56.")]
Folder = Annotated[Path, typer.Argument(help="The ceremony's folder; everything in it may be published.")]


@app.command()
def install() -> None:
    """Install snarkjs from npm, as pinned in ceremony/package-lock.json."""
    snarkjs.install()


@app.command()
def begin(
    shape: OneShape,
    folder: Folder,
    ptau: Annotated[Path | None, typer.Option(help="Phase 1 as made by others, prepared for phase 2.")] = None,
) -> None:
    """Coordinator: start phase 1, or phase 2 on top of a public phase 1."""
    steps.begin(shape, folder, ptau)


@app.command()
def contribute(
    file: Annotated[Path, typer.Argument(help="The latest powers-<n>.ptau or <shape>-<n>.zkey.")],
    name: Annotated[str, typer.Option(help="Who contributes; it is published.")],
) -> None:
    """Contributor: add randomness that only this process knows. Send the new file back and publish the contribution's hash."""
    _contribute(file, name)


def _contribute(file: Path, name: str) -> Path:
    contributed, contribution = steps.contribute(file, name)
    print(f"{contributed}: SHA-256 {file_digest(contributed)}")
    print(f"contribution of {name}: {contribution.digest}")
    return contributed


@app.command()
def finish(
    folder: Folder,
    beacon: Annotated[
        str,
        typer.Option(callback=_beacon, help="Public randomness nobody could know when contributions closed, in hex."),
    ],
) -> None:
    """Coordinator: end the phase that is open. After phase 2 everything is verified and the transcript written."""
    print(steps.finish(folder, beacon))


@app.command()
def verify(
    folder: Folder,
    beacon: Annotated[
        str | None, typer.Option(callback=_beacon, help="What was announced to end phase 2, in hex: it must be that.")
    ] = None,
) -> None:
    """Anybody: verify a finished ceremony against this release's circuit, and print its transcript."""
    print("\n".join(steps.verify(folder, beacon)))


@app.command()
def rehearse(shape: OneShape, folder: Folder) -> None:
    """Run both phases with two contributors on this machine, and import the key into FOLDER/keys. It guards no funds."""
    steps.begin(shape, folder, None)
    for first in ("powers-0.ptau", f"{shape.name}-0.zkey"):
        file = folder / first
        for name in REHEARSERS:
            file = _contribute(file, name)
        final = steps.finish(folder, REHEARSAL_BEACON)
    print((folder / "transcript.txt").read_text())
    command = [
        sys.executable,
        ROOT / "starter.py",
        "circuit",
        "import",
        shape.name,
        final,
        "--sha256",
        file_digest(final),
    ]
    keys = {"CROUPIER_CIRCUIT_KEYS": str(folder / "keys")}
    imported = subprocess.run(command, env={**os.environ, **keys}, cwd=ROOT, check=False)
    if imported.returncode != 0:
        raise StepFailed("the key could not be imported")
    print("This was a rehearsal: one machine has seen every secret, so this key guards nothing.")


def main() -> None:
    """What a person can mend is one line on standard error."""
    try:
        app()
    except (CroupierError, OSError) as error:
        print(f"ceremony: {_line(error)}", file=sys.stderr)
        sys.exit(1)


def _line(error: CroupierError | OSError) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


if __name__ == "__main__":
    main()
