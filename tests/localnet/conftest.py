"""One ledger for the tests that only need one, served in this process with short slots."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.localnet.support import Cluster, running_cluster

SLOT_SECONDS = 0.02


@pytest.fixture(scope="session")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Cluster]:
    database: Path = tmp_path_factory.mktemp("localnet") / "ledger.db"
    async with running_cluster(database, SLOT_SECONDS) as (connected, _):
        yield connected
