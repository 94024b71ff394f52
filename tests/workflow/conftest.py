"""A casino of its own for each test: its server, its workers, its journal, its chain."""

import shutil
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from activities import submitting
from journal.migrate import upgrade
from tests.workflow.casino import Casino, open_casino


@pytest.fixture(scope="session")
async def migrated_journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "journal.db"
    await upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def journal_path(migrated_journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # The fake chain answers at once, and the server skips no time while an activity waits.
    monkeypatch.setattr(submitting, "RESEND_SECONDS", 0.05)
    path = tmp_path / "journal.db"
    shutil.copy(migrated_journal, path)
    return path


@pytest.fixture
async def casino(journal_path: Path) -> AsyncGenerator[Casino, None]:
    async with open_casino(journal_path) as opened:
        yield opened


@pytest.fixture
async def real_time_casino(journal_path: Path) -> AsyncGenerator[Casino, None]:
    """On the development server: for continue-as-new while signals come in."""
    async with open_casino(journal_path, skips_time=False) as opened:
        yield opened


@pytest.fixture
async def forgetful_real_time_casino(journal_path: Path) -> AsyncGenerator[Casino, None]:
    """On the development server; its worker keeps few workflows in memory, so it replays them often. Local activities need some room."""
    async with open_casino(journal_path, cached_workflows=3, skips_time=False) as opened:
        yield opened


@pytest.fixture
async def uncached_casino(journal_path: Path) -> AsyncGenerator[Casino, None]:
    """Its worker keeps no workflow in memory, and so replays each from its first event at every task."""
    async with open_casino(journal_path, cached_workflows=0) as opened:
        yield opened
