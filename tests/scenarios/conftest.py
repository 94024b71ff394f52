"""One Temporal server, one provisioned chain to copy and one prover for all scenarios."""

from collections.abc import AsyncGenerator, Generator

import pytest

from activities import submitting
from journal import database
from ledger import watching
from tests.scenarios.company import Company
from tests.scenarios.defects import patch_judge
from tests.scenarios.stage import Theatre, open_theatre


@pytest.fixture(scope="session")
def brisk() -> Generator[None]:
    """Looks and resends as often as short slots allow, and a locked journal is given up soon. What is decided is not touched."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(watching, "LOOK_SECONDS", 0.1)
        monkeypatch.setattr(submitting, "UNSEEN_SECONDS", 0.4)
        monkeypatch.setattr(submitting, "SEEN_SECONDS", 0.8)
        monkeypatch.setattr(submitting, "RESEND_SECONDS", 0.4)
        monkeypatch.setattr(database, "LOCK_WAIT_MILLISECONDS", 500)
        patch_judge(monkeypatch)
        yield


@pytest.fixture(scope="session")
async def theatre(tmp_path_factory: pytest.TempPathFactory, brisk: None) -> AsyncGenerator[Theatre]:
    del brisk
    async with open_theatre(tmp_path_factory.mktemp("theatre")) as opened:
        yield opened


@pytest.fixture(scope="session")
async def company(theatre: Theatre) -> AsyncGenerator[Company]:
    company = Company(theatre)
    yield company
    await company.aclose()
