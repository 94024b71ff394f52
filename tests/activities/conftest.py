"""A bank with an empty journal, for each test."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from journal.adapter import SqlJournal
from journal.migrate import upgrade
from tests.activities.test_fencing import Bank


@pytest.fixture
async def bank(tmp_path: Path) -> AsyncGenerator[Bank, None]:
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    await upgrade(url)
    async with SqlJournal.open(url) as journal:
        yield Bank(journal)
