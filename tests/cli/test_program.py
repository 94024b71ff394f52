"""`starter.py program` as an operator uses it: from a first deployment to a freeze, and what is refused on the way."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from embedded.stack import ROOT
from ledger.deployment import Deployer
from ledger.keys import create_keypair
from ledger.provisioning import Provisioner
from ledger.rpc import RpcClient
from localnet.server import serve
from operations import programs
from operations.programs import NotConfirmed
from settings import InvalidSetting, Settings
from settlement.errors import LedgerMisconfigured, LedgerUnavailable
from tests.e2e.machine import Finished, clean_environment
from tests.ledger.variants import program_answering

SLOT_SECONDS = 0.02
SOL = 1_000_000_000
COMMAND_SECONDS = 60.0
OLD = 0x501


@dataclass
class Operator:
    """An authority with SOL, a program key, and a ledger where nothing is deployed."""

    rpc: RpcClient
    folder: Path
    authority: Keypair
    program: Keypair
    settings: Settings

    @property
    def program_id(self) -> Pubkey:
        return self.program.pubkey()

    @property
    def chain(self) -> Provisioner:
        return Provisioner(self.rpc, self.authority, priority_fee_micro_lamports=0)

    @property
    def deployer(self) -> Deployer:
        return Deployer(self.rpc, self.authority, priority_fee_micro_lamports=0)

    async def deploy(self, code: bytes) -> None:
        await self.deployer.ensure_program(self.program, code, unheard)

    async def run(self, *arguments: str, typed: str = "") -> Finished:
        """A command as from a terminal, in which `typed` is typed."""
        settings = {
            "CROUPIER_VAR": str(self.folder),
            "CROUPIER_RPC_URL": str(self.settings.rpc_url),
            "CROUPIER_AUTHORITY_KEYPAIR": str(self.settings.authority_keypair),
            "CROUPIER_PROGRAM_KEYPAIR": str(self.settings.program_keypair),
            "CROUPIER_PROGRAM_ID": str(self.program_id),
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "starter.py", "program", *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env=clean_environment(**settings),
        )
        out, err = await asyncio.wait_for(process.communicate(typed.encode()), COMMAND_SECONDS)
        assert process.returncode is not None
        return Finished(process.returncode, out.decode(), err.decode())

    async def refused(self, *arguments: str, typed: str = "") -> str:
        """The one line that a command is refused with."""
        done = await self.run(*arguments, typed=typed)
        assert done.status == 1, done
        assert len(done.err.splitlines()) == 1, done.err
        return done.err

    async def done(self, *arguments: str, typed: str = "") -> str:
        """What a command that ends well has printed."""
        done = await self.run(*arguments, typed=typed)
        assert (done.status, done.err) == (0, ""), done
        return done.out


def unheard(done: int, total: int) -> None:
    """Progress that nobody follows."""
    del done, total


async def agree(consequence: str, program: Pubkey) -> None:
    """Somebody who confirms whatever is asked."""
    del consequence, program


async def never_asked(consequence: str, program: Pubkey) -> None:
    pytest.fail(f"asked to confirm for {program}: {consequence}")


@pytest.fixture(scope="module")
def old_code() -> bytes:
    return program_answering(OLD, padding_bytes=10)


@pytest.fixture(scope="module")
async def url(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[str]:
    async with serve(tmp_path_factory.mktemp("ledger") / "ledger.db", "127.0.0.1", 0, SLOT_SECONDS) as running:
        yield running.url


@pytest.fixture
async def operator(url: str, tmp_path: Path) -> AsyncGenerator[Operator]:
    authority, program = create_keypair(tmp_path / "authority.json"), create_keypair(tmp_path / "program.json")
    settings = Settings.model_validate(
        {
            "rpc_url": url,
            "program_id": str(program.pubkey()),
            "authority_keypair": tmp_path / "authority.json",
            "program_keypair": tmp_path / "program.json",
        }
    )
    async with RpcClient(url) as rpc:
        operator = Operator(rpc, tmp_path, authority, program, settings)
        await operator.chain.airdrop(authority.pubkey(), 10 * SOL)
        yield operator


async def test_a_programs_life_from_the_command_line(operator: Operator, old_code: bytes) -> None:
    program_id, authority = str(operator.program_id), str(operator.authority.pubkey())
    successor = create_keypair(operator.folder / "successor.json")
    nothing = await programs.report(operator.settings)
    assert (nothing.deployed, nothing.runs_release, nothing.frozen) == (False, False, False)
    assert 0 < nothing.deployment_lamports < SOL
    assert f"{program_id} is deployed" in await operator.done("deploy")

    # As if an earlier release had been deployed.
    await operator.deployer.ensure_code(operator.program_id, old_code, unheard)
    refusal, shown = await asyncio.gather(operator.refused("deploy"), operator.done("show", "--json"))
    assert "run `python starter.py program upgrade`" in refusal
    report = json.loads(shown)
    assert (report["deployed"], report["runs_release"]) == (True, False)
    assert (report["upgrade_authority"], report["authority"]) == (authority, None)
    assert "upgraded" in await operator.done("upgrade")

    await operator.chain.ensure_config(operator.program_id)
    key = ("--new-authority-key", str(operator.folder / "successor.json"))
    handing_over = operator.done("hand-over", str(successor.pubkey()), *key, "--yes-hand-over", program_id)
    assert f"{successor.pubkey()} is the upgrade authority" in await handing_over

    freeze = ("freeze", "--upgrade-authority", str(operator.folder / "successor.json"))
    assert f"give --yes-freeze-for-ever {program_id}" in await operator.refused(*freeze, typed=f"{authority}\n")
    assert (await programs.report(operator.settings)).upgrade_authority == str(successor.pubkey())
    assert "frozen, for ever" in await operator.done(*freeze, typed=f"{program_id}\n")
    frozen, shown = await asyncio.gather(programs.report(operator.settings), operator.done("show"))
    assert (frozen.frozen, frozen.runs_release, frozen.upgrade_authority) == (True, True, None)
    for word in (program_id, frozen.release_sha256, "this release's", "nobody, for ever", authority):
        assert word in shown


async def test_a_freeze_is_refused_as_long_as_it_would_make_something_impossible(
    operator: Operator, old_code: bytes
) -> None:
    await operator.deploy(old_code)
    with pytest.raises(LedgerMisconfigured, match=r"not this release's.*program upgrade` first"):
        await programs.freeze(operator.settings, None, never_asked)
    await programs.upgrade(operator.settings, None, unheard)
    with pytest.raises(LedgerMisconfigured, match=r"is not initialised.*provision` first"):
        await programs.freeze(operator.settings, None, never_asked)
    with pytest.raises(LedgerMisconfigured, match=r"is not initialised.*provision` first"):
        await programs.hand_over(operator.settings, None, Keypair().pubkey(), None, never_asked)
    await operator.chain.ensure_config(operator.program_id)

    other = create_keypair(operator.folder / "other.json")
    await operator.chain.airdrop(other.pubkey(), SOL)
    by_other = operator.settings.model_copy(update={"authority_keypair": operator.folder / "other.json"})
    with pytest.raises(LedgerMisconfigured, match=r"--upgrade-authority"):
        await programs.freeze(by_other, None, never_asked)
    with pytest.raises(LedgerMisconfigured, match=r"obeys authority.*CROUPIER_AUTHORITY_KEYPAIR"):
        await programs.freeze(by_other, operator.folder / "authority.json", never_asked)

    assert await programs.freeze(operator.settings, None, agree)
    assert not await programs.freeze(operator.settings, None, never_asked)


async def test_a_program_is_not_handed_to_what_cannot_sign(operator: Operator, old_code: bytes) -> None:
    await operator.deploy(old_code)
    for address in (operator.program_id, Pubkey.default()):
        with pytest.raises(NotConfirmed, match="can never sign"):
            await programs.hand_over(operator.settings, None, address, None, never_asked)
    with pytest.raises(NotConfirmed, match="holds the key of"):
        await programs.hand_over(
            operator.settings, None, Keypair().pubkey(), operator.folder / "authority.json", never_asked
        )
    assert (await programs.report(operator.settings)).upgrade_authority == str(operator.authority.pubkey())


async def test_a_program_is_read_without_any_key_file(operator: Operator, old_code: bytes) -> None:
    await operator.deploy(old_code)
    for file in operator.folder.glob("*.json"):
        await asyncio.to_thread(os.remove, file)
    report = await programs.report(operator.settings)
    assert (report.deployed, report.runs_release) == (True, False)
    assert report.code_sha256 != report.release_sha256


async def test_a_deployment_under_another_key_than_the_programs_is_refused(operator: Operator) -> None:
    other = operator.settings.model_copy(update={"program_id": str(Keypair().pubkey())})
    with pytest.raises(
        InvalidSetting, match=r"CROUPIER_PROGRAM_ID is .* but the key in CROUPIER_PROGRAM_KEYPAIR is that of"
    ):
        await programs.deploy(other, unheard)


async def test_what_is_no_program_and_a_node_that_does_not_answer_are_named(operator: Operator) -> None:
    wallet = operator.settings.model_copy(update={"program_id": str(operator.authority.pubkey())})
    with pytest.raises(LedgerMisconfigured, match=r"not an upgradeable program.*CROUPIER_PROGRAM_ID"):
        await programs.report(wallet)
    nowhere = operator.settings.model_copy(update={"rpc_url": "http://127.0.0.1:1"})
    with pytest.raises(LedgerUnavailable, match="gave no answer"):
        await programs.report(nowhere)
