"""Chains with the committed program on them: fresh for each test."""

import pytest
from solders.litesvm import LiteSVM

from settlement.shapes import SHAPES
from tests.program.chain import AnyProver, Chain, deploy, open_for_business, program_code


@pytest.fixture(scope="session")
def prover(tmp_path_factory: pytest.TempPathFactory) -> AnyProver:
    return AnyProver(tmp_path_factory.mktemp("circuit"))


@pytest.fixture
def deployed(prover: AnyProver) -> Chain:
    """The program deployed and not initialised."""
    return deploy(program_code(), prover, LiteSVM())


@pytest.fixture
def chain(deployed: Chain) -> Chain:
    """Two lanes open, the first with four vaults."""
    open_for_business(deployed, vaults=4)
    return deployed


@pytest.fixture
def full_chain(deployed: Chain) -> Chain:
    """As `chain`, with a vault for each player of the largest shape."""
    open_for_business(deployed, vaults=SHAPES[-1].players)
    return deployed
