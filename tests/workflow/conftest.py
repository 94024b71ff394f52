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
def journal_url(migrated_journal: Path, tmp_path: Path) -> str:
    path = tmp_path / "journal.db"
    shutil.copy(migrated_journal, path)
    return f"sqlite:///{path}"


@pytest.fixture
async def casino(journal_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Casino, None]:
    # The fake chain answers at once, and the server skips no time while an activity waits.
    monkeypatch.setattr(submitting, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(submitting, "RESEND_SECONDS", 0.05)
    async with open_casino(journal_url) as opened:
        yield opened
