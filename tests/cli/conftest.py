"""A real Temporal server and a real ledger without our program, and settings that point to them and are right otherwise."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from solders.keypair import Keypair
from temporalio.testing import WorkflowEnvironment

from embedded.site import BIN
from journal.migrate import upgrade
from ledger.keys import create_keypair
from localnet.server import serve

SLOT_SECONDS = 0.1


@pytest.fixture(scope="session")
async def temporal_address() -> AsyncGenerator[str]:
    # The signature's one untyped parameter (search attributes' values) is not used here.
    starting = WorkflowEnvironment.start_local(dev_server_existing_path=str(BIN / "temporal"))  # pyright: ignore[reportUnknownMemberType]
    async with await starting as environment:
        yield environment.client.service_client.config.target_host


@pytest.fixture(scope="session")
async def rpc_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[str]:
    async with serve(tmp_path_factory.mktemp("ledger") / "ledger.db", "127.0.0.1", 0, SLOT_SECONDS) as running:
        yield running.url


@pytest.fixture
async def right(tmp_path: Path, temporal_address: str, rpc_url: str) -> dict[str, str]:
    """Settings of which a test makes one wrong. Right in all but that the program is not deployed."""
    journal, authority = tmp_path / "journal.db", tmp_path / "authority.json"
    await upgrade(f"sqlite:///{journal}")
    create_keypair(authority)
    return {
        "TEMPORAL_ADDRESS": temporal_address,
        "CROUPIER_VAR": str(tmp_path),
        "CROUPIER_RPC_URL": rpc_url,
        "CROUPIER_PROGRAM_ID": str(Keypair().pubkey()),
        "CROUPIER_AUTHORITY_KEYPAIR": str(authority),
        "CROUPIER_JOURNAL_URL": f"sqlite:///{journal}",
        "CROUPIER_CIRCUIT_KEYS": str(tmp_path / "circuits"),
    }
