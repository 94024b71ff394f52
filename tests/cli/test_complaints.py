"""What an operator can get wrong ends in one clear line that names the thing and the remedy, and in a non-zero exit status."""

import contextlib
import sqlite3
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.e2e.machine import run

WORKER = ("worker.py", "--queues", "settlement")
NOWHERE = "127.0.0.1:1"
"""Nothing listens on port 1."""

PLAYER = "11111111111111111111111111111111"
BET = (
    '{"bet_id": "b-1", "player": "11111111111111111111111111111111", "stake": 1, "guess": "heads", "outcome": "tails"}'
)
Settings = dict[str, str]
Harm = Callable[[Path], None]


async def complaint(program: Sequence[str], variables: Settings) -> str:
    """The one line that a command ends with. Fails if there is more, or nothing, or if it ends well."""
    done = await run([sys.executable, *program], variables)
    assert done.status == 1, done.err
    assert done.out.strip() == ""
    lines = done.err.splitlines()
    assert len(lines) == 1, done.err
    assert lines[0].startswith(f"{program[0].removesuffix('.py')}: ")
    return lines[0]


@pytest.mark.parametrize("program", [("worker.py",), ("starter.py", "balances")])
async def test_every_wrong_setting_is_named_at_once(program: Sequence[str]) -> None:
    wrong = {"CROUPIER_RPC_URL": "ftp://node", "CROUPIER_LANES": "many", "CROUPIER_WINDOW_SECONDS": "0"}
    line = await complaint(program, wrong)
    for name in wrong:
        assert f"{name}: " in line


@pytest.mark.parametrize(
    "program",
    [
        ("worker.py",),
        ("starter.py", "place", "--bet", BET),
        ("starter.py", "reconcile"),
        ("starter.py", "pause"),
    ],
)
async def test_temporal_that_does_not_answer(program: Sequence[str], right: Settings) -> None:
    line = await complaint(program, {**right, "TEMPORAL_ADDRESS": NOWHERE})
    assert f"no Temporal server answers at {NOWHERE}" in line
    assert "start one (`make up`) or set TEMPORAL_ADDRESS" in line
    assert "Connection refused" in line


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("TEMPORAL_PROFILE", "absent", "Profile 'absent' not found"),
        ("TEMPORAL_TLS_SERVER_CA_CERT_PATH", "no-such-file.pem", "no-such-file.pem"),
    ],
)
async def test_temporal_settings_that_cannot_be_used(variable: str, value: str, said: str, right: Settings) -> None:
    line = await complaint(("starter.py", "pause"), {**right, variable: value})
    assert "Temporal's settings" in line
    assert said in line


async def test_namespace_that_does_not_exist(right: Settings) -> None:
    line = await complaint(("starter.py", "place", "--bet", BET), {**right, "TEMPORAL_NAMESPACE": "absent"})
    assert "Namespace absent is not found" in line


@pytest.mark.parametrize("program", [WORKER, ("starter.py", "balances")])
async def test_rpc_node_that_does_not_answer(program: Sequence[str], right: Settings) -> None:
    line = await complaint(program, {**right, "CROUPIER_RPC_URL": f"http://user:secret@{NOWHERE}/key"})
    assert f"http://{NOWHERE} gave no answer" in line
    assert "nothing listens there" in line
    assert "secret" not in line


@pytest.mark.parametrize("program", [WORKER, ("starter.py", "balances")])
async def test_program_that_is_not_deployed(program: Sequence[str], right: Settings) -> None:
    line = await complaint(program, right)
    assert f"program {right['CROUPIER_PROGRAM_ID']} is not deployed on http://127.0.0.1:" in line
    assert "run `python starter.py provision`" in line


@pytest.mark.parametrize(
    ("program_id", "said"), [("", "CROUPIER_PROGRAM_ID is not set"), ("nobody", "CROUPIER_PROGRAM_ID is no address")]
)
async def test_program_id_that_is_missing_or_no_address(program_id: str, said: str, right: Settings) -> None:
    line = await complaint(("starter.py", "balances"), {**right, "CROUPIER_PROGRAM_ID": program_id})
    assert said in line
    assert "`python starter.py provision` prints" in line


def _missing(file: Path) -> None:
    file.unlink()


def _not_a_key(file: Path) -> None:
    file.write_text("[1, 2, 3]")


def _open_to_others(file: Path) -> None:
    file.chmod(0o644)


@pytest.mark.parametrize(
    ("program", "harm", "said", "remedy"),
    [
        (WORKER, _missing, "does not exist", "put the key there, or make one with solana-keygen"),
        (("starter.py", "open-vault", PLAYER), _not_a_key, "does not hold a key", "that solana-keygen writes"),
        (("starter.py", "deposit", PLAYER, "1"), _missing, "does not exist", "put the key there"),
        (WORKER, _open_to_others, "is open to other users", "chmod 600 "),
    ],
)
async def test_key_file_that_cannot_be_used(
    program: Sequence[str], harm: Harm, said: str, remedy: str, right: Settings
) -> None:
    key = Path(right["CROUPIER_AUTHORITY_KEYPAIR"])
    harm(key)
    line = await complaint(program, right)
    assert f"key file {key} {said}" in line
    assert remedy in line


def _corrupt(file: Path) -> None:
    file.write_bytes(b"no database" * 1_000)


def _empty(file: Path) -> None:
    file.write_bytes(b"")


def _of_another_version(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file)) as journal, journal:
        journal.execute("UPDATE alembic_version SET version_num = '0000'")


@pytest.mark.parametrize(
    ("program", "harm", "said"),
    [
        (("starter.py", "balances"), _missing, "no such file yet"),
        (WORKER, _corrupt, "not a database"),
        (("starter.py", "balances"), _empty, "no tables yet"),
        (WORKER, _of_another_version, "its schema is version 0000"),
    ],
)
async def test_journal_that_cannot_be_used(program: Sequence[str], harm: Harm, said: str, right: Settings) -> None:
    journal = Path(right["CROUPIER_JOURNAL_URL"].removeprefix("sqlite:///"))
    harm(journal)
    line = await complaint(program, right)
    assert f"journal {journal}: " in line
    assert said in line


async def test_proving_worker_without_keys(right: Settings) -> None:
    line = await complaint(("worker.py", "--queues", "proving"), right)
    assert "no usable key for shape 16x8" in line
    assert right["CROUPIER_CIRCUIT_KEYS"] in line
    assert "python starter.py circuit make 16x8" in line


def _absent(_path: Path) -> None:
    return


def _directory(path: Path) -> None:
    path.mkdir()


def _binary(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")


@pytest.mark.parametrize("make", [_absent, _directory, _binary])
async def test_file_of_bets_that_cannot_be_read(make: Harm, right: Settings, tmp_path: Path) -> None:
    file = tmp_path / "bets.jsonl"
    make(file)
    line = await complaint(("starter.py", "place", str(file)), right)
    assert f"{file} cannot be read" in line


@pytest.mark.parametrize("what", ["batcher-0", "b-1", b"settlement-\xff".decode(errors="surrogateescape")])
async def test_retry_of_what_is_no_batch(what: str, right: Settings) -> None:
    line = await complaint(("starter.py", "retry", what), right)
    assert "is no batch: a batch id is settlement-…" in line


async def test_receipt_that_is_none(right: Settings, tmp_path: Path) -> None:
    file = tmp_path / "receipt.json"
    file.write_text('{"bet_id": "b-1"}')
    line = await complaint(("starter.py", "verify", str(file)), right)
    assert f"{file} is no receipt: status: Field required" in line


async def test_state_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    line = await complaint(("starter.py", "up"), {"CROUPIER_VAR": str(tmp_path / "file")})
    assert f"{tmp_path / 'file'} cannot be made" in line


@pytest.mark.parametrize(
    ("file", "reason"), [("absent/report.json", "No such file or directory"), (".", "Is a directory")]
)
async def test_report_that_could_not_be_written_is_refused_before_the_demo(
    file: str, reason: str, right: Settings, tmp_path: Path
) -> None:
    report = tmp_path / file
    line = await complaint(("starter.py", "demo", "--json", str(report)), right)
    assert f"--json: {report} cannot be written: {reason}" in line
