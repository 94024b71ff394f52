"""What a person or a client runs: start the stack, place bets, see what became of them, operate lanes and batches."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Final

import typer

import composition
from client.connection import connect
from client.intake import TemporalIntake
from commands import circuit, money, placing, program
from commands.running import MAX_LAMPORTS, console, run
from embedded.console import show_stack, shown_progress
from embedded.demo.report import show
from embedded.demo.run import DemoPlan, run_demo
from embedded.demo.scenario import MAX_BETS, MAX_PLAYERS, MIN_BETS
from embedded.json_files import check_writable, write
from embedded.stack import BANKROLL_LAMPORTS, running_stack
from operations import views
from operations.lanes import telling_of_silence
from operations.provisioning import provision, register_search_attributes
from operations.reconciling import reconcile
from operations.retrying import retry
from operations.vaults import fund_vaults
from settings import VAR, load_settings
from settlement.bets import check_player
from workflows import names
from workflows.batcher import Batcher

DEMO_DEFAULTS: Final = {"CROUPIER_WINDOW_SECONDS": "2"}
"""The demo need not wait as long for a batch to fill as players would."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=(
        "Settles off-chain bets on Solana, exactly once, proven correct. Try `demo`; or `up` in one terminal and `place`, "
        "`status`, `balances`, `reconcile` in another. Settings: CROUPIER_… and TEMPORAL_… variables (README, Configuration)."
    ),
)
app.add_typer(circuit.app, name="circuit")
app.add_typer(program.app, name="program")
app.add_typer(placing.app)
app.add_typer(money.app)


@app.command()
def up() -> None:
    """Keep the embedded stack running in the foreground: Temporal with its Web UI, the local ledger, a worker. Ctrl-C stops it."""
    run(_up())


@app.command()
def demo(
    bets: Annotated[int, typer.Option(min=MIN_BETS, max=MAX_BETS, help="How many different bets to place.")] = 300,
    players: Annotated[int, typer.Option(min=1, max=MAX_PLAYERS, help="Players with funded vaults.")] = 12,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bets.")] = 7,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the report to this file as JSON.")] = None,
) -> None:
    """Settle bets end to end on the embedded stack and compare chain, journal and what was placed. Exit status 0 if all agree."""
    run(_demo(DemoPlan(bets=bets, players=players, seed=seed), json_file))


@app.command("provision")
def provision_command(
    bankroll_lamports: Annotated[
        int, typer.Option(min=0, max=MAX_LAMPORTS, help="What each house is topped up to.")
    ] = BANKROLL_LAMPORTS,
    faucet: Annotated[bool, typer.Option(help="Draw lamports from a local ledger's faucet.")] = True,
) -> None:
    """Set up what a worker needs, once: journal, keys, program, circuits, houses, lookup tables, search attributes. Safe to repeat."""
    run(_provision(bankroll_lamports, faucet))


@app.command()
def open_vault(
    players: Annotated[list[str], typer.Argument(help="Players' keys in base58.")],
    lamports: Annotated[
        int, typer.Option(min=0, max=MAX_LAMPORTS, help="Top each up to this, from the authority's account.")
    ] = 0,
) -> None:
    """Open vaults for players, without which their bets are rejected.

    Safe to repeat, also after it was stopped: what an earlier run had sent is looked into first. It knows earlier runs by
    CROUPIER_VAR: use one directory.
    """
    run(_open_vault(players, lamports))


@app.command()
def status(
    subject: Annotated[
        str | None, typer.Argument(help="A bet id, or a batch id (settlement-…). None: all lanes.")
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print JSON: for a bet its state, its receipt and whether the chain holds it."),
    ] = False,
) -> None:
    """Show what became of a bet (its receipt is checked against the chain) or of a batch, or how the lanes stand."""
    run(_status(subject, as_json))


@app.command("reconcile")
def reconcile_command() -> None:
    """Start again what nobody works on, compare journal and chain. Exit status 0 if they agree and nothing had to be repaired."""
    run(_reconcile())


@app.command("retry")
def retry_command(
    batch_id: Annotated[str, typer.Argument(help="A batch id (settlement-…) that is parked as Failed.")],
) -> None:
    """Wake a batch that is parked as Failed. Exit status 1 if it is not."""
    run(_retry(batch_id))


@app.command()
def pause(lane: Annotated[int, typer.Argument(min=0)] = 0) -> None:
    """Stop a lane from cutting batches; bets are still taken in."""
    run(_signal(names.batcher_id(lane), Batcher.pause.__name__))


@app.command()
def resume(lane: Annotated[int, typer.Argument(min=0)] = 0) -> None:
    """Let a paused lane cut batches again."""
    run(_signal(names.batcher_id(lane), Batcher.resume.__name__))


async def _up() -> int:
    async with AsyncExitStack() as exits:
        with shown_progress(console) as progress:
            stack = await exits.enter_async_context(running_stack(VAR, {}, progress))
        show_stack(console, stack)
        await stack.wait_until_broken()
    return 0


async def _demo(plan: DemoPlan, json_file: Path | None) -> int:
    if json_file is not None:
        await asyncio.to_thread(check_writable, json_file)
    async with AsyncExitStack() as exits:
        with shown_progress(console) as progress:
            stack = await exits.enter_async_context(running_stack(VAR, DEMO_DEFAULTS, progress))
            show_stack(console, stack)
            report = await run_demo(stack, VAR, plan, progress)
    show(report, console)
    if json_file is not None:
        await asyncio.to_thread(write, report, json_file)
    return 0 if report.agreed else 1


async def _provision(bankroll_lamports: int, faucet: bool) -> int:
    with shown_progress(console) as progress:
        provisioned = await provision(
            load_settings(), bankroll_lamports=bankroll_lamports, faucet=faucet, progress=progress
        )
        await register_search_attributes(await connect())
    views.show_provisioned(console, provisioned)
    return 0


async def _open_vault(players: list[str], lamports: int) -> int:
    settings = load_settings()
    for player in players:
        check_player(player)
    async with composition.open_ledger(settings):
        await fund_vaults(settings, dict.fromkeys(players, lamports))
    return await money.balances_of(players)


async def _status(subject: str | None, as_json: bool) -> int:
    settings = load_settings()
    async with composition.open_journal(settings) as journal:
        if subject is None:
            intake = TemporalIntake(await connect(), composition.batcher_settings(settings))
            return await views.show_lanes(console, intake, settings.lanes, journal, as_json)
        if (batch := await journal.batch(subject)) is not None:
            return await views.show_batch(console, batch, journal, as_json)
        async with composition.open_reader(settings) as reader:
            return await views.show_bet(console, subject, journal, reader, as_json)


async def _reconcile() -> int:
    settings = load_settings()
    client = await connect()
    with console.status("comparing journal and chain…"):
        async with telling_of_silence(TemporalIntake(client, composition.batcher_settings(settings))):
            reports = await reconcile(client, settings.lanes)
    for report in reports:
        views.show_reconciliation(console, report)
    return 0 if all(report.agreed for report in reports) else 1


async def _retry(batch_id: str) -> int:
    load_settings()  # The running stack's address is among them.
    await retry(await connect(), batch_id)
    console.print(f"retry sent to {batch_id}")
    return 0


async def _signal(workflow_id: str, name: str) -> int:
    load_settings()  # The running stack's address is among them.
    await (await connect()).get_workflow_handle(workflow_id).signal(name)
    console.print(f"{name} sent to {workflow_id}")
    return 0


if __name__ == "__main__":
    app()
