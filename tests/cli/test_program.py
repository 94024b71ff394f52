"""`starter.py program` as an operator uses it: from a first deployment to a freeze, and what is refused on the way."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from commands.running import STOPPED_STATUS
from embedded.site import ROOT
from ledger import loader
from ledger.deployed import deployed_program
from ledger.deployment import Deployer
from ledger.keys import create_keypair
from ledger.landing import Job, Lander
from ledger.provisioning import Provisioner
from ledger.reading import ProgramReader
from ledger.rpc import RpcClient
from localnet.server import serve
from operations import programs
from operations.circuits import foreign_circuits
from operations.programs import NotConfirmed
from prover.keys import load_verifying_key
from prover.making import make_development_keys
from settings import InvalidSetting, Settings
from settlement.circuits import FOREIGN_CIRCUIT, RegisteredCircuit, RegisteredCircuits
from settlement.errors import LedgerMisconfigured, LedgerUnavailable
from settlement.shapes import SHAPES
from tests.e2e.machine import Finished, clean_environment, run
from tests.ledger.scripted import Refusal, ScriptedNode, serving
from tests.ledger.variants import program_answering

SLOT_SECONDS = 0.02
SOL = 1_000_000_000
COMMAND_SECONDS = 60.0
STOP_SECONDS = 2.0
OLD = 0x501
SMALL = SHAPES[0]
FOREIGN = SMALL.model_copy(update={"circuit_id": 31_337})


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

    @property
    def variables(self) -> dict[str, str]:
        return {
            "CROUPIER_VAR": str(self.folder),
            "CROUPIER_RPC_URL": str(self.settings.rpc_url),
            "CROUPIER_AUTHORITY_KEYPAIR": str(self.settings.authority_keypair),
            "CROUPIER_PROGRAM_KEYPAIR": str(self.settings.program_keypair),
            "CROUPIER_PROGRAM_ID": str(self.program_id),
        }

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        """A command whose input is held open."""
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "starter.py", "program", *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env=clean_environment(**self.variables),
        )

    async def run(self, *arguments: str, typed: str = "") -> Finished:
        """A command as from a terminal, in which `typed` is typed."""
        process = await self.start(*arguments)
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
    frozen, shown, staged = await asyncio.gather(
        programs.report(operator.settings), operator.done("show"), operator.done("stage")
    )
    assert staged.strip() == "the program runs this release's code already: nothing to do"
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


async def test_what_a_fork_could_take_back_is_not_called_done_already(operator: Operator, old_code: bytes) -> None:
    """As if a run was stopped between the change and its finality."""
    await operator.deploy(old_code)
    successor = create_keypair(operator.folder / "successor.json")

    async def change(holder: Keypair, new: Pubkey | None) -> None:
        signers = [] if holder == operator.authority else [holder]
        changing = loader.set_upgrade_authority(operator.program_id, authority=holder.pubkey(), new=new)
        lander = Lander(operator.rpc, operator.authority, priority_fee_micro_lamports=0)
        await lander.land([Job("changing hands", [changing], signers)])

    async def final_holder() -> Pubkey | None:
        final = await deployed_program(operator.rpc, operator.program_id, "finalized")
        assert final is not None
        return final.upgrade_authority

    await change(operator.authority, successor.pubkey())
    assert not await programs.hand_over(operator.settings, None, successor.pubkey(), None, never_asked)
    assert await final_holder() == successor.pubkey()
    await change(successor, None)
    assert not await programs.freeze(operator.settings, None, never_asked)
    assert await final_holder() is None


async def test_a_question_that_is_not_answered_is_ended_by_ctrl_c(operator: Operator) -> None:
    await operator.deploy(await programs.release_code())
    await operator.chain.ensure_config(operator.program_id)
    asking = await operator.start("freeze")
    try:
        assert asking.stdout is not None
        async with asyncio.timeout(COMMAND_SECONDS):
            while b"Type the program's address" not in (line := await asking.stdout.readline()):
                assert line, "it ended without a question"
        asking.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(asking.wait(), STOP_SECONDS) == STOPPED_STATUS
    finally:
        if asking.returncode is None:
            asking.kill()
            await asking.wait()
    assert (await programs.report(operator.settings)).upgrade_authority == str(operator.authority.pubkey())


async def test_a_circuit_of_somebody_elses_is_shown_loudly(operator: Operator) -> None:
    await operator.deploy(await programs.release_code())
    await operator.chain.ensure_config(operator.program_id)
    keys = ROOT / "var" / "circuits"
    make_development_keys(keys, [SMALL])
    key = load_verifying_key(keys, SMALL)
    for circuit in (SMALL, FOREIGN):
        await operator.chain.ensure_circuit(operator.program_id, circuit, key.encoded)
    listing = [sys.executable, "starter.py", "circuit", "list"]
    shown, as_json, listed, listed_as_json = await asyncio.gather(
        operator.done("show"),
        operator.done("show", "--json"),
        run(listing, operator.variables),
        run([*listing, "--json"], operator.variables),
    )
    said = f"circuit 31337 (16x8), verifying key {key.sha256}: {FOREIGN_CIRCUIT}"
    assert said in shown.splitlines()
    assert f"{SMALL.circuit_id} (16x8)" in shown
    assert said in listed.out.splitlines()
    assert (
        f"circuit {SMALL.circuit_id} (16x8), verifying key {key.sha256}: no key here to compare it with" in listed.out
    )
    foreign = {"circuit_id": 31_337, "bets": 16, "players": 8, "sha256": key.sha256}
    report, view = json.loads(as_json), json.loads(listed_as_json.out)
    assert (report["foreign_circuits"], report["foreign_circuits_problem"]) == ([foreign], None)
    assert [circuit["circuit_id"] for circuit in report["circuits"]] == [SMALL.circuit_id]
    assert (view["foreign"], view["foreign_problem"]) == ([foreign], None)


@pytest.mark.parametrize("code", [-32601, -32010, -32602, -32000])
async def test_a_node_that_lists_no_accounts_is_told_of_and_workers_do_without_the_list(
    operator: Operator, code: int
) -> None:
    def refuse(_: object) -> None:
        raise Refusal(code)

    async with serving(ScriptedNode()) as node:
        node.answers = {
            "getVersion": lambda _: {"solana-core": "3.0.0"},
            "getGenesisHash": lambda _: "1" * 32,
            "getMultipleAccounts": lambda params: {"context": {"slot": 1}, "value": [None] * len(params[0])},
            "getAccountInfo": lambda _: {"context": {"slot": 1}, "value": None},
            "getMinimumBalanceForRentExemption": lambda _: 1,
            "getProgramAccounts": refuse,
        }
        there = replace(operator, settings=operator.settings.model_copy(update={"rpc_url": node.url}))
        async with ProgramReader(RpcClient(node.url), operator.program_id, commitment="confirmed") as reader:
            assert (await reader.circuits()).circuits == ()
        assert node.called("getProgramAccounts") == []
        if code == -32601:
            shown = await there.done("show")
            assert "whether circuits of other ids are registered could not be found out: " in shown
            assert "Set CROUPIER_RPC_URL to a node that offers getProgramAccounts" in shown
        else:
            problem = (await programs.report(there.settings)).foreign_circuits_problem
            assert problem is not None
            assert "getProgramAccounts" in problem


async def test_a_list_that_leaves_out_what_is_there_is_not_taken_for_complete() -> None:
    async with serving(ScriptedNode()) as node:
        node.answers = {"getProgramAccounts": lambda _: []}
        circuit = RegisteredCircuit(circuit_id=1, bets=16, players=8, sha256="ab" * 32)
        registered = RegisteredCircuits(place="program P on node", local=False, circuits=(circuit,))
        async with ProgramReader(RpcClient(node.url), Pubkey.default(), commitment="confirmed") as reader:
            found, problem = await foreign_circuits(reader, registered)
        assert found == []
        assert problem == "program P on node: the node leaves out circuits that are there"


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
