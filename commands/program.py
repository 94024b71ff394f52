"""`starter.py program`: the settlement program's code on the chain, and who may replace it."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.table import Table
from solders.pubkey import Pubkey

from commands.circuit import NOT_LISTED, foreign_lines
from commands.running import console, from_input, run, say
from embedded.console import shown_progress
from ledger.deployment import Staged
from operations import programs
from operations.programs import Confirm, NotConfirmed, ProgramReport, Progress
from operations.provisioning import LAMPORTS_PER_SOL
from settings import load_settings

app: Final = typer.Typer(
    no_args_is_help=True,
    help=(
        "Deploy, upgrade, hand over and freeze the settlement program. CROUPIER_AUTHORITY_KEYPAIR pays; the code is always this"
        " release's. docs/program.md has the way."
    ),
)

UpgradeAuthority = Annotated[
    Path | None,
    typer.Option(metavar="KEYFILE", help="The upgrade authority's key file, if it is not CROUPIER_AUTHORITY_KEYPAIR."),
]


def _address(text: str) -> Pubkey:
    try:
        return Pubkey.from_string(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no address") from None


@app.command()
def show(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show what is deployed, since when, who may replace it, its circuits, and what a deployment costs. Needs no key."""
    run(_show(as_json))


@app.command()
def deploy() -> None:
    """Deploy under CROUPIER_PROGRAM_KEYPAIR; the authority becomes the upgrade authority. Goes on where it stood. Safe to repeat."""
    run(_deploy())


@app.command()
def upgrade(upgrade_authority: UpgradeAuthority = None) -> None:
    """Replace the code by this release's. Goes on where it stood. Safe to repeat."""
    run(_upgrade(upgrade_authority))


@app.command()
def stage() -> None:
    """Write the code into a buffer for an upgrade authority whose key is not here, say a multisig. Safe to repeat."""
    run(_stage())


@app.command()
def hand_over(
    new_authority: Annotated[Pubkey, typer.Argument(parser=_address, help="Address of the new upgrade authority.")],
    new_authority_key: Annotated[
        Path | None,
        typer.Option(metavar="KEYFILE", help="Its key file, if it has one: it signs too, which proves the address."),
    ] = None,
    upgrade_authority: UpgradeAuthority = None,
    yes_hand_over: Annotated[
        Pubkey | None, typer.Option(parser=_address, metavar="PROGRAM", help="Confirm with the program's address.")
    ] = None,
) -> None:
    """Give the right to upgrade to another key or a multisig. Asks for the program's address. Safe to repeat."""
    run(_hand_over(new_authority, new_authority_key, upgrade_authority, yes_hand_over))


@app.command()
def freeze(
    upgrade_authority: UpgradeAuthority = None,
    yes_freeze_for_ever: Annotated[
        Pubkey | None, typer.Option(parser=_address, metavar="PROGRAM", help="Confirm with the program's address.")
    ] = None,
) -> None:
    """End all upgrades, for ever. Asks for the program's address. Safe to repeat."""
    run(_freeze(upgrade_authority, yes_freeze_for_ever))


@app.command()
def reclaim(
    buffer: Annotated[
        Pubkey | None,
        typer.Argument(parser=_address, help="A buffer's address. None: the one for this release's code."),
    ] = None,
    upgrade_authority: UpgradeAuthority = None,
) -> None:
    """Give up an interrupted deployment or upgrade and get the SOL in its buffer back. Safe to repeat."""
    run(_reclaim(buffer, upgrade_authority))


async def _show(as_json: bool) -> int:
    report = await programs.report(load_settings())
    if as_json:
        console.print_json(report.model_dump_json())
    else:
        console.print(_table(report))
        for line in foreign_lines(report.foreign_circuits):
            say(line)
        if report.foreign_circuits_problem is not None:
            say(f"{NOT_LISTED}: {report.foreign_circuits_problem}")
    return 0


def _table(report: ProgramReport) -> Table:
    table = Table(title="Settlement program", title_justify="left", show_header=False)
    if report.deployed:
        standing = "this release's" if report.runs_release else "NOT this release's"
        code = f"sha256:{report.code_sha256}, {standing}"
        right = "frozen: nobody, for ever" if report.frozen else report.upgrade_authority
    else:
        code, right = "not deployed", None
    slot = None if report.deployed_slot is None else f"{report.deployed_slot:,}"
    cost = report.deployment_lamports
    for name, value in (
        ("address", report.program_id),
        ("code", code),
        ("this release's code", f"sha256:{report.release_sha256}"),
        ("last deployed in slot", slot),
        ("upgrade authority", right),
        ("authority", report.authority or "not initialised"),
        (
            "circuits",
            ", ".join(f"{circuit.circuit_id} ({circuit.bets}x{circuit.players})" for circuit in report.circuits),
        ),
        ("a deployment costs at most", f"{cost:,} lamports ({cost / LAMPORTS_PER_SOL:.4f} SOL)"),
    ):
        table.add_row(name, value or "–")
    return table


async def _deploy() -> int:
    with _written("deploying") as progress:
        program_id, had_to = await programs.deploy(load_settings(), progress)
    say(f"{program_id} {'is deployed' if had_to else 'is deployed already with this code: nothing to do'}")
    return 0


async def _upgrade(upgrade_authority: Path | None) -> int:
    with _written("upgrading") as progress:
        had_to = await programs.upgrade(load_settings(), upgrade_authority, progress)
    say("upgraded" if had_to else "the program runs this release's code already: nothing to do")
    return 0


async def _stage() -> int:
    with _written("writing") as progress:
        buffer, staged = await programs.stage(load_settings(), progress)
    match staged:
        case Staged.RUNS_ALREADY:
            say("the program runs this release's code already: nothing to do")
        case Staged.WRITTEN_ALREADY:
            say(f"buffer {buffer} of the program's upgrade authority holds this release's code already: nothing to do")
        case Staged.WRITTEN:
            say(f"buffer {buffer} holds this release's code and belongs to the program's upgrade authority")
    return 0


async def _hand_over(
    new_authority: Pubkey, new_key: Path | None, upgrade_authority: Path | None, confirmed: Pubkey | None
) -> int:
    confirm = _confirming(confirmed, "--yes-hand-over")
    had_to = await programs.hand_over(load_settings(), upgrade_authority, new_authority, new_key, confirm)
    say(f"{new_authority} is the upgrade authority{'' if had_to else ' already: nothing to do'}")
    return 0


async def _freeze(upgrade_authority: Path | None, confirmed: Pubkey | None) -> int:
    had_to = await programs.freeze(load_settings(), upgrade_authority, _confirming(confirmed, "--yes-freeze-for-ever"))
    say("frozen, for ever" if had_to else "the program is frozen already: nothing to do")
    return 0


async def _reclaim(buffer: Pubkey | None, upgrade_authority: Path | None) -> int:
    lamports = await programs.reclaim(load_settings(), upgrade_authority, buffer)
    say(f"{lamports:,} lamports came back" if lamports else "there is no such buffer: nothing to do")
    return 0


@contextmanager
def _written(what: str) -> Generator[Progress]:
    with shown_progress(console) as progress:
        yield lambda done, of: progress(what, done / max(of, 1))


def _confirming(given: Pubkey | None, option: str) -> Confirm:
    """Asks for the program's address on standard input unless it was given as an option."""

    async def confirm(consequence: str, program: Pubkey) -> None:
        if given is None:
            say(f"{consequence}\nType the program's address to go on:")
            typed = (await from_input(sys.stdin.readline)).strip()
        else:
            typed = str(given)
        if typed != str(program):
            raise NotConfirmed(
                f"not confirmed, nothing was done: type the program's address, or give {option} {program}"
            )

    return confirm
