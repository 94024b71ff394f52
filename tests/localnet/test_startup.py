"""Starting and stopping by hand: one clear line when it cannot start, a clean end when told to stop."""

import sqlite3
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest

from localnet.errors import LedgerUnusable
from localnet.ledger import Ledger
from tests.localnet.support import LocalnetProcess, launch

SLOT_SECONDS = 0.4


async def refusal(*arguments: str) -> str:
    """What a start that must fail says: exactly one line on stderr, none on stdout."""
    process = await launch(*arguments)
    output, errors = await process.communicate()
    assert process.returncode == 1, errors
    assert output == b""
    assert len(errors.splitlines()) == 1, errors
    return errors.decode()


async def test_health_and_a_clean_stop(tmp_path: Path) -> None:
    process = await LocalnetProcess.start(tmp_path / "ledger.db", slot_ms=20)
    async with aiohttp.ClientSession() as http, http.get(f"{process.url}/health") as response:
        assert (response.status, await response.text()) == (200, "ok")
    assert await process.terminate() == (0, b"")


async def test_a_taken_port_and_a_database_in_use_are_named(tmp_path: Path) -> None:
    process = await LocalnetProcess.start(tmp_path / "ledger.db", slot_ms=20)
    port = process.url.rsplit(":", 1)[1]
    line = await refusal("--db", str(tmp_path / "other.db"), "--port", port)
    assert f"port {port} on 127.0.0.1 is taken" in line
    assert "--port" in line
    assert "in use by another localnet" in await refusal("--db", str(tmp_path / "ledger.db"), "--port", "0")
    await process.terminate()


async def test_a_corrupt_database_ends_the_start_with_one_line(tmp_path: Path) -> None:
    database = tmp_path / "ledger.db"
    database.write_bytes(b"not a database" * 1000)
    line = await refusal("--db", str(database), "--port", "0")
    assert f"{database} is corrupt" in line
    assert "remove it" in line


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        ("garbage", "remove it"),
        ("truncated", "remove it"),
        ("foreign", "choose another --db"),
        ("missing directory", "create it first"),
        ("directory", "choose another --db"),
        ("future", "choose another --db"),
    ],
)
async def test_an_unusable_database_is_named_with_the_remedy(tmp_path: Path, kind: str, remedy: str) -> None:
    database = tmp_path / "ledger.db"
    if kind == "garbage":
        database.write_bytes(b"not a database" * 1000)
    elif kind == "foreign":
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("CREATE TABLE bets (id TEXT)")
    elif kind == "missing directory":
        database = tmp_path / "nowhere" / "ledger.db"
    elif kind == "directory":
        database.mkdir()
    else:
        Ledger.open(database, SLOT_SECONDS).close()
        if kind == "truncated":
            database.write_bytes(database.read_bytes()[:20_000])
        else:
            with closing(sqlite3.connect(database)) as connection:
                connection.execute("PRAGMA user_version=99")
    with pytest.raises(LedgerUnusable, match=remedy) as refused:
        Ledger.open(database, SLOT_SECONDS)
    assert str(database) in str(refused.value)
    assert "\n" not in str(refused.value)
