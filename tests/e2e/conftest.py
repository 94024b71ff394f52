"""One stack for all tests that leave it as they found it, on state and ports of its own. Development keys are made at most once."""

from collections.abc import AsyncGenerator
from contextlib import ExitStack
from pathlib import Path

import pytest

from embedded.site import ROOT
from prover.making import make_development_keys
from settlement.bets import Bet
from tests.e2e.machine import Machine, running_machine, state_directory, usual_ports_taken

SLOT_MS = 100
"""Final after 3.2 seconds rather than 12.8."""

WINDOW_SECONDS = 0.5


@pytest.fixture(scope="session")
def circuit_keys() -> Path:
    """The repository's own development keys, made if there are none."""
    keys = ROOT / "var" / "circuits"
    make_development_keys(keys)
    return keys


@pytest.fixture(scope="session")
async def machine(tmp_path_factory: pytest.TempPathFactory, circuit_keys: Path) -> AsyncGenerator[Machine]:
    var = state_directory(tmp_path_factory.mktemp("stack"), circuit_keys)
    with ExitStack() as ports:
        ports.enter_context(usual_ports_taken())
        async with running_machine(var, slot_ms=SLOT_MS, window_seconds=WINDOW_SECONDS) as running:
            ports.close()
            yield running


@pytest.fixture(scope="session")
async def settled(machine: Machine) -> Bet:
    """A bet that came through the tracked door and was settled in a batch of its own."""
    [bet] = machine.bets(1, "settled")
    await (await machine.intake.track(bet)).result()
    return bet
