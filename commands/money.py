"""Commands that move lamports or show and check what the chain holds: deposit, withdraw, co-sign, withdraw-bankroll, balances, verify."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.status import Status

import composition
from commands.running import MAX_LAMPORTS, console, from_input, run, say
from ledger.transfers import Listener
from operations import transfers
from operations.balances import read_balances, show_balances
from operations.verifying import read_receipt_file, verify
from settings import load_settings
from settlement.bets import check_player
from settlement.limits import MAX_LANE

EARLIER_STATUS: Final = 3
"""Of a command that found the same transfer made by an earlier run, and did nothing."""

SHOWN_PLAYERS: Final = 200
"""`balances` without arguments shows this many players, and says if there are more."""

app = typer.Typer()

Player = Annotated[str, typer.Argument(help="The player's key in base58.")]
Lamports = Annotated[int, typer.Argument(min=1, max=MAX_LAMPORTS, help="How many lamports.")]
DespiteUnsettled = Annotated[
    bool,
    typer.Option("--despite-unsettled", help="Go on although bets in batches that are not final may need the money."),
]


@app.command()
def deposit(
    player: Player,
    lamports: Lamports,
    payer: Annotated[
        Path | None,
        typer.Option("--from", help="Key file of whoever pays, lamports and fee. None: the authority pays."),
    ] = None,
) -> None:
    """Move lamports into a player's vault. Whoever has the key file of --from pays; without it the authority.

    Made once: stopped and run again, it first finds out what became of what it had sent. Exit status 3: an earlier run had made
    it, this one did nothing. It knows earlier runs by CROUPIER_VAR: use one directory.
    """
    _transfer(lambda listener: transfers.deposit(load_settings(), player, lamports, payer, listener))


@app.command()
def withdraw(
    player: Player,
    lamports: Lamports,
    keypair: Annotated[
        Path | None, typer.Option(help="The player's key file, if it is on this machine: signed and sent at once.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write it to this file, signed by the authority alone, for the player to `co-sign`; waits."),
    ] = None,
    despite_unsettled: DespiteUnsettled = False,
) -> None:
    """Move lamports from a player's vault to the player. Player and authority both sign; the authority pays the fee.

    With --out the keys stay on their machines: the player runs `co-sign FILE` within 60 to 90 seconds, the life of a blockhash.
    Checked before signing: the vault covers it, and none of the player's bets is in a batch of the journal that is not final.
    Not checked: bets that are only queued in Temporal. Such a bet, or one that is claimed meanwhile, is rejected as uncovered if
    the vault cannot bear it any more. Made once, as with `deposit`: exit status 3 if an earlier run had made it.
    """
    if (keypair is None) == (out is None):
        raise typer.BadParameter("give either --keypair or --out, not both and not neither")

    def work(listener: Listener) -> Coroutine[Any, Any, None]:
        settings = load_settings()
        if keypair is not None:
            return transfers.withdraw(
                settings, player, lamports, keypair, listener, despite_unsettled=despite_unsettled
            )
        assert out is not None
        return transfers.hand_out(settings, player, lamports, out, listener, despite_unsettled=despite_unsettled)

    _transfer(work)


@app.command("co-sign")
def co_sign(
    file: Annotated[Path, typer.Argument(help="What the operator's `withdraw --out` has written.")],
    keypair: Annotated[Path, typer.Option(help="Key file of the player whose vault it is.")],
) -> None:
    """Check and sign a withdrawal that an operator has handed out, send it and wait. Sending it again is harmless.

    Signed is only what moves lamports from the player's vault to the player, byte by byte; it is shown before. Needs
    CROUPIER_RPC_URL and CROUPIER_PROGRAM_ID, no journal and no Temporal.
    """
    _transfer(lambda listener: transfers.co_sign(load_settings(), file, keypair, listener))


@app.command("withdraw-bankroll")
def withdraw_bankroll(
    lane: Annotated[int, typer.Argument(min=0, max=MAX_LANE)],
    lamports: Lamports,
    despite_unsettled: DespiteUnsettled = False,
) -> None:
    """Move lamports from a lane's house to the authority, whose key signs and pays.

    Checked before signing: the house covers it above rent, and no batch of the lane in the journal is unsettled. Not checked:
    bets that are only queued in Temporal; a win that the house cannot pay parks its batch until it is topped up.
    """
    _transfer(
        lambda listener: transfers.withdraw_bankroll(
            load_settings(), lane, lamports, listener, despite_unsettled=despite_unsettled
        )
    )


@app.command()
def balances(
    players: Annotated[
        list[str] | None, typer.Argument(help="Players' keys. None: everybody with bets in the journal.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the houses' and players' balances, read from the chain. Without players at most 200 are shown. Needs no key."""
    run(_balances(players or [], as_json))


@app.command("verify")
def verify_command(
    receipt: Annotated[
        Path,
        typer.Argument(help="A receipt as `status <bet> --json` or the Bet workflow prints it; `-`: standard input."),
    ],
) -> None:
    """Hold a receipt against the chain. Needs CROUPIER_RPC_URL and CROUPIER_PROGRAM_ID, nothing else. Exit status 0 if it holds.

    That it holds says: the program has settled this very bet, with its player, stake and outcome, in that batch. What the chain
    could not be asked about is named: the batch_id always, the transaction where the node does not keep it.
    """
    run(_verify(receipt))


class _Shown:
    """Prints what has happened, and keeps one line of how things stand."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def say(self, line: str) -> None:
        say(line)

    def show(self, line: str) -> None:
        self._status.update(f"{line}…")


def _transfer(work: Callable[[Listener], Coroutine[Any, Any, None]]) -> None:
    async def shown() -> int:
        with console.status("asking the chain…") as status:
            try:
                await work(_Shown(status))
            except transfers.EarlierRunLanded as made:
                say(str(made))
                return EARLIER_STATUS
        return 0

    run(shown())


async def balances_of(players: list[str], as_json: bool = False, *, more: bool = False) -> int:
    """Shows the houses' balances and those of `players`; `more`: there are others."""
    settings = load_settings()
    async with composition.open_reader(settings) as reader:
        found = await read_balances(reader, composition.program_id(settings), settings.lanes, players, more=more)
    if as_json:
        console.print_json(found.model_dump_json())
    else:
        show_balances(console, found)
    return 0


async def balances_of_all(*, as_json: bool) -> int:
    """Shows the houses' balances and those of the players with bets in the journal, as many as are shown."""
    async with composition.open_journal(load_settings()) as journal:
        players = await journal.players(SHOWN_PLAYERS + 1)
    return await balances_of(players[:SHOWN_PLAYERS], as_json, more=len(players) > SHOWN_PLAYERS)


async def _balances(players: list[str], as_json: bool) -> int:
    for player in players:
        check_player(player)
    return await (balances_of(players, as_json) if players else balances_of_all(as_json=as_json))


async def _verify(file: Path) -> int:
    settings = load_settings()
    receipt = await from_input(lambda: read_receipt_file(file))
    verification = await verify(settings, receipt)
    where = f"batch {receipt.number} of lane {receipt.lane}"
    if verification.holds:
        assert receipt.bet is not None
        console.print(
            f"{receipt.bet_id}: holds: {receipt.bet.delta:+,} lamports for {receipt.bet.player} in {where}"
            f" ({settings.commitment.value})",
            highlight=False,
            soft_wrap=True,
        )
        for part in verification.unchecked:
            say(f"{receipt.bet_id}: not checked: {part}")
        return 0
    for reason in verification.reasons:
        say(f"{receipt.bet_id}: does not hold: {reason}")
    return 1
