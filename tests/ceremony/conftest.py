"""One rehearsal for all tests that need one. It starts as soon as they are collected and they run last, so little is waited for."""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest

from tests.ceremony import background

NEEDS: Final = "rehearsed"
PATIENCE_SECONDS: Final = 900.0
"""Two cores of its own take it two minutes; beside other work it has had to make do with a fraction of that."""

POLL_SECONDS: Final = 0.1
_PLACE: Final = pytest.StashKey[Path]()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    needing = [item for item in items if NEEDS in getattr(item, "fixturenames", ())]
    if not needing or config.option.collectonly:
        return
    items[:] = [item for item in items if item not in needing] + needing
    # Of several processes that run tests, each collects all of them: the first starts the rehearsal, all know its place.
    several: dict[str, str] = getattr(config, "workerinput", {})
    place = Path(tempfile.gettempdir()) / f"croupier-rehearsal-{several.get('testrunuid', uuid4().hex)}"
    config.stash[_PLACE] = place
    if several.get("workerid", "gw0") != "gw0":
        return
    place.mkdir()
    owner = os.getppid() if several else os.getpid()
    subprocess.Popen([sys.executable, background.__file__, place, str(owner)], start_new_session=True)


@pytest.fixture(scope="session")
async def rehearsed(pytestconfig: pytest.Config) -> Path:
    """The folder of a rehearsal that has gone well."""
    place = pytestconfig.stash[_PLACE]
    status, deadline = place / "status", time.monotonic() + PATIENCE_SECONDS
    while not status.exists():
        assert time.monotonic() < deadline, (place / "log").read_text()
        await asyncio.sleep(POLL_SECONDS)
    assert status.read_text() == "0", (place / "log").read_text()
    return background.ceremony_folder(place)
