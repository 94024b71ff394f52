"""One ledger with the program for all tests of money."""

from collections.abc import AsyncGenerator

import pytest
from solders.keypair import Keypair

from journal.migrate import upgrade
from ledger.deployment import Deployer
from ledger.provisioning import Provisioner
from ledger.rpc import RpcClient
from localnet.server import serve
from operations import outbox
from program.build import ARTEFACT
from tests.money.bank import HOUSE_BALANCE, SOL, Bank

SLOT_SECONDS = 0.1
PRIORITY_FEE = 1_000


def _unheard(_done: int, _total: int) -> None:
    return


@pytest.fixture(scope="session")
async def bank(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Bank]:
    var = tmp_path_factory.mktemp("bank")
    await upgrade(f"sqlite:///{var / 'journal.db'}")
    authority, program = Keypair(), Keypair()
    async with serve(var / "ledger.db", "127.0.0.1", 0, SLOT_SECONDS) as running, RpcClient(running.url) as rpc:
        provisioner = Provisioner(rpc, authority, priority_fee_micro_lamports=PRIORITY_FEE)
        await provisioner.airdrop(authority.pubkey(), 1_000 * SOL)
        deployer = Deployer(rpc, authority, priority_fee_micro_lamports=PRIORITY_FEE)
        await deployer.ensure_program(program, ARTEFACT.read_bytes(), _unheard)
        await provisioner.ensure_config(program.pubkey())
        await provisioner.ensure_houses(program.pubkey(), 1)
        bank = Bank(var, running, rpc, provisioner, program.pubkey(), authority)
        bank.stranger(authority).file.rename(bank.authority_file)
        await provisioner.transfer({bank.house: HOUSE_BALANCE})
        yield bank


@pytest.fixture
def in_this_process(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    """Transfers that a test makes by calling functions have the same outbox as commands."""
    monkeypatch.setattr(outbox, "FOLDER", bank.var / "transfers")
