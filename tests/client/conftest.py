"""One Temporal server for all, on which workers wait for lanes to be used."""

from collections.abc import AsyncGenerator

import pytest

from journal.migrate import upgrade
from tests.workflow.casino import Casino, open_casino


@pytest.fixture(scope="session")
async def casino(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Casino]:
    path = tmp_path_factory.mktemp("client") / "journal.db"
    await upgrade(f"sqlite:///{path}")
    async with open_casino(path, skips_time=False) as opened:
        yield opened
