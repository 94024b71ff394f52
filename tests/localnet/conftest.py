"""One ledger for the tests that only need one, served in this process with short slots."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.localnet.support import Cluster, connect, running_cluster

SLOT_SECONDS = 0.02
SHORT_SLOT_SECONDS = 0.01
"""For tests that wait for finality."""


# For each file anew: their short slots would take their share of the processor from all tests that follow.
@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Cluster]:
    database: Path = tmp_path_factory.mktemp("localnet") / "ledger.db"
    async with running_cluster(database, SLOT_SECONDS) as (connected, _):
        yield connected


@pytest.fixture(scope="module")
async def _nodes(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[tuple[Cluster, Cluster]]:
    database: Path = tmp_path_factory.mktemp("nodes") / "ledger.db"
    async with (
        running_cluster(database, SHORT_SLOT_SECONDS, with_faults=True) as (first, running),
        connect(f"{running.url}/nodes/1") as second,
    ):
        yield first, second


@pytest.fixture
async def nodes(_nodes: tuple[Cluster, Cluster]) -> AsyncGenerator[tuple[Cluster, Cluster]]:
    """Nodes 0 and 1 of a ledger on which faults can be made, in good order to begin with."""
    yield _nodes
    await _nodes[0].clear_faults()
