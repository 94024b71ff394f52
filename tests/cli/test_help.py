"""`--help` shows the way, and a wrong command line says where help is."""

import sys

import pytest
from typer.testing import CliRunner

import starter
from tests.e2e.machine import run

WAY = (
    "up",
    "demo",
    "provision",
    "place",
    "status",
    "balances",
    "deposit",
    "withdraw",
    "verify",
    "reconcile",
    "circuit",
    "retry",
    "pause",
    "resume",
)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (("starter.py",), WAY),
        (("worker.py",), ("--queues", "settlement", "proving", "both", "CROUPIER_")),
        (("-m", "localnet"), ("--db", "--port", "--slot-ms", "Example")),
    ],
)
async def test_program_explains_itself(program: tuple[str, ...], words: tuple[str, ...]) -> None:
    done = await run([sys.executable, *program, "--help"], {})
    assert (done.status, done.err) == (0, "")
    for word in words:
        assert word in done.out


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("up", ("Ctrl-C stops",)),
        ("demo", ("--bets", "--players", "--seed", "--json")),
        ("provision", ("--faucet", "Safe to repeat")),
        ("place", ("--bet", "--door", "JSON lines", "Example: place --bet")),
        ("status", ("A bet id, or a batch id", "--json")),
        ("balances", ("Players' keys",)),
        ("deposit", ("--from", "the authority pays", "Exit status 3")),
        ("withdraw", ("--keypair", "--out", "60 to 90 seconds", "Not checked: bets that are only queued")),
        ("co-sign", ("--keypair", "Sending it again is harmless")),
        ("withdraw-bankroll", ("{lane}", "--despite-unsettled", "Not checked")),
        ("verify", ("Exit status 0 if it holds", "standard input")),
        ("reconcile", ("Exit status 0 if they agree",)),
        ("retry", ("parked as Failed",)),
        ("pause", ("[lane]", "still taken in")),
        ("resume", ("[lane]",)),
    ],
)
def test_command_explains_itself(command: str, words: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(starter.app, [command, "--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"})
    assert shown.exit_code == 0
    for word in words:
        assert word.lower() in " ".join(shown.output.split()).lower()


async def test_no_command_shows_the_help() -> None:
    done = await run([sys.executable, "starter.py"], {})
    assert "Commands" in done.out + done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["place"],
        ["place", "bets.jsonl", "--bet", "{}"],
        ["place", "--door", "window", "--bet", "{}"],
        ["demo", "--bets", "1"],
        ["deposit", "key", "0"],
        ["deposit", "key", str(2**63)],
        ["deposit", "key", "0.5"],
        ["withdraw", "key", "1"],
        ["withdraw", "key", "1", "--keypair", "a", "--out", "b"],
        ["withdraw-bankroll", "65536", "1"],
        ["pause", "-1"],
        ["open-vault", "key", "--lamports", str(2**63)],
        ["provision", "--bankroll-lamports", str(2**63)],
        ["nonsense"],
    ],
)
def test_wrong_command_line_names_the_way_to_help(arguments: list[str]) -> None:
    refused = CliRunner().invoke(starter.app, arguments)
    assert refused.exit_code == 2
    assert "--help" in refused.output
