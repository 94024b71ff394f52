"""The whole stack, killed and broken, loses nothing and settles nothing twice; and a system that does is found out."""

import asyncio
import json
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest

from chaos.plan import Target, kinds_of_faults
from commands.running import STOPPED_STATUS
from embedded.site import ROOT
from prover.making import make_development_keys
from tests.e2e.machine import clean_environment, eventually, run

KILLS: Final = len(Target) + 1
SHORT: Final = ("--seed", "7", "--kills", str(KILLS), "--bets", "200", "--minutes", "4")
"""About a minute on two cores; the minutes are for slow machines."""

MOST_SECONDS: Final = 270.0
STOP_SECONDS: Final = 20.0

KEYS: Final = {
    *("seed", "acknowledged", "settled", "lost", "settled_twice", "never_sent"),
    *("kills", "faults", "longest_heal_seconds", "agreed"),
}


@pytest.fixture(scope="module")
def circuit_keys() -> Path:
    """The repository's own development keys, made if there are none."""
    keys = ROOT / "var" / "circuits"
    make_development_keys(keys)
    return keys


@pytest.fixture
def report_file(tmp_path: Path) -> Path:
    return tmp_path / "report.json"


def read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text())


async def test_everything_killed_and_broken_settles_every_acknowledged_bet_once(
    tmp_path: Path, circuit_keys: Path, report_file: Path
) -> None:
    var = tmp_path / "var"
    var.mkdir()
    (var / "circuits").symlink_to(circuit_keys)
    finished = await run(
        [sys.executable, "-m", "chaos", *SHORT, "--json", report_file], {"CROUPIER_VAR": str(var)}, MOST_SECONDS
    )
    report = read(report_file)
    assert finished.status == 0, finished.out
    assert report["agreed"] is True
    assert (report["seed"], report["acknowledged"], report["settled"]) == (7, 200, 200)
    assert (report["lost"], report["settled_twice"], report["never_sent"]) == (0, 0, 0)
    assert report.keys() == KEYS
    assert sum(report["kills"].values()) == KILLS
    assert report["kills"].keys() == set(Target)
    assert all(report["kills"].values()), "every kind of process was killed"
    assert report["faults"].keys() == set(kinds_of_faults())
    assert all(report["faults"].values()), "every kind of fault was made"
    assert report["longest_heal_seconds"] > 0
    assert "settled exactly once" in finished.out


@pytest.mark.slow
async def test_system_that_pays_twice_is_found_out(tmp_path: Path, circuit_keys: Path, report_file: Path) -> None:
    finished = await run(
        [sys.executable, "-m", "tests.chaos.defective", tmp_path / "var", circuit_keys, report_file], {}, MOST_SECONDS
    )
    report = read(report_file)
    assert finished.status == 1
    assert report["agreed"] is False
    assert report["settled_twice"] > 0
    assert "are settled twice" in finished.out


async def test_ctrl_c_leaves_no_process_behind(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chaos"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=clean_environment(CROUPIER_VAR=str(tmp_path)),
    )

    async def started() -> bool:
        assert process.returncode is None
        return len(processes_on(tmp_path)) >= 2

    try:
        await eventually("Temporal and the ledger run", started)
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(STOP_SECONDS):
            _, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, err.decode()) == (STOPPED_STATUS, "stopped\n")
    assert processes_on(tmp_path) == []


def processes_on(var: Path) -> list[str]:
    """The command lines of running processes that name the directory."""
    found: list[str] = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            command = entry.read_text().replace("\0", " ")
            if str(var) in command:
                found.append(command)
    return found
