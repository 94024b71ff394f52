"""Circuit keys from the command line, and a proving worker that refuses to prove what the chain would not take or should not."""

import asyncio
import hashlib
import json
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Worker

from activities.circuits import CircuitReading
from client import circuits as asking
from client.circuits import registered_circuits
from embedded import processes
from embedded.site import ROOT
from ledger.clusters import PUBLIC_CLUSTERS, is_local_ledger
from ledger.rpc import RpcClient
from operations.provisioning import provision
from prover.groth16 import Groth16Prover
from prover.keys import VerifyingKey, load_verifying_key
from prover.making import make_development_keys
from settings import Settings
from settlement.batches import statement_for
from settlement.bets import Bet
from settlement.circuits import ACCEPT_FORGEABLE_KEYS, RegisteredCircuit, RegisteredCircuits
from settlement.errors import CircuitsUnknown, KeyRefused, LedgerMisconfigured
from settlement.shapes import SHAPES
from tests.e2e.machine import Finished, environment, run
from tests.ledger.scripted import ScriptedNode, serving
from tests.workflow.fakes import FakeLedger
from worker import require_chain_keys
from workflows import names
from workflows.circuits import CircuitsWorkflow

SMALL = SHAPES[0]
SMALL_ONLY = {"CROUPIER_MAX_BATCH_BETS": str(SMALL.bets), "CROUPIER_MAX_BATCH_PLAYERS": str(SMALL.players)}
OTHER_DIGEST = "ab" * 32
LONGER_THAN_ANY_NAME = 300
"""Linux and macOS allow 255 bytes."""
READY_SECONDS = 60.0
STOP_SECONDS = 20.0
Variables = dict[str, str]


@pytest.fixture(scope="session")
def keys_dir() -> Path:
    """The repository's own development keys."""
    directory = ROOT / "var" / "circuits"
    make_development_keys(directory, [SMALL])
    return directory


@pytest.fixture(scope="session")
def key(keys_dir: Path) -> VerifyingKey:
    return load_verifying_key(keys_dir, SMALL)


@pytest.fixture
def with_keys(right: Variables, keys_dir: Path) -> Variables:
    return {**right, **SMALL_ONLY, "CROUPIER_CIRCUIT_KEYS": str(keys_dir)}


@pytest.fixture
async def client(temporal_address: str) -> Client:
    return await Client.connect(temporal_address, data_converter=pydantic_data_converter)


def on_chain(sha256: str, *, local: bool = True, bets: int = SMALL.bets) -> RegisteredCircuits:
    circuit = RegisteredCircuit(circuit_id=SMALL.circuit_id, bets=bets, players=SMALL.players, sha256=sha256)
    return RegisteredCircuits(place="program P on http://node", local=local, circuits=(circuit,))


@asynccontextmanager
async def settlement_worker(client: Client, registered: RegisteredCircuits) -> AsyncGenerator[FakeLedger]:
    """Answers what is registered, as the settlement queue's worker does."""
    ledger = FakeLedger(registered=registered)
    async with Worker(
        client,
        task_queue=names.SETTLEMENT_QUEUE,
        workflows=[CircuitsWorkflow],
        activities=[CircuitReading(ledger).read_circuits],
    ):
        yield ledger


async def circuit(*arguments: str, variables: Variables) -> Finished:
    return await run([sys.executable, "starter.py", "circuit", *arguments], variables)


async def proving_worker(variables: Variables) -> str:
    """What a proving worker that refuses to start says last, one line."""
    done = await run([sys.executable, "worker.py", "--queues", "proving"], variables)
    assert done.status == 1, done.err
    assert "worker ready" not in done.out
    return done.err.splitlines()[-1]


async def test_the_list_shows_every_shape_and_its_key_where_no_ledger_can_be_read(
    with_keys: Variables, key: VerifyingKey
) -> None:
    shown = await circuit("list", variables={**with_keys, "CROUPIER_AUTHORITY_KEYPAIR": "absent"})
    assert (shown.status, shown.err) == (0, "")
    row = next(line for line in shown.out.splitlines() if SMALL.name in line)
    assert "yes" in row
    assert "development: unsafe for funds" in row
    assert key.sha256[:16] in row
    assert all(shape.name in shown.out for shape in SHAPES)
    assert "what is on chain could not be read: program" in shown.out
    told = json.loads((await circuit("list", "--json", variables=with_keys)).out)
    assert "is not deployed on" in told["ledger_problem"]
    assert told["circuits"][0]["key"] == json.loads(key.model_dump_json(exclude={"text"}))
    assert [entry["in_use"] for entry in told["circuits"]] == [True, False, False, False]


async def test_the_list_says_where_keys_cannot_be_looked_for(with_keys: Variables, tmp_path: Path) -> None:
    place = tmp_path / ("k" * LONGER_THAN_ANY_NAME)
    shown = await circuit("list", variables={**with_keys, "CROUPIER_CIRCUIT_KEYS": str(place)})
    assert (shown.status, shown.err) == (0, "")
    assert "not usable" in shown.out
    assert f"{place}/16x8." in shown.out
    assert "File name too long" in shown.out


async def test_making_keys_says_that_they_are_unsafe_and_leaves_what_is_there(
    with_keys: Variables, key: VerifyingKey
) -> None:
    made = await circuit("make", variables=with_keys)
    assert made.status == 0, made.err
    assert "development: unsafe for funds; whoever makes them can forge proofs" in made.out
    assert f"{SMALL.name}: present" in made.out
    assert key.sha256 in made.out


async def test_the_exported_key_is_that_of_the_program_and_its_digest_its_name(
    with_keys: Variables, key: VerifyingKey, tmp_path: Path
) -> None:
    file = tmp_path / "16x8.vkey"
    exported = await circuit("export", SMALL.name, "--out", str(file), variables=with_keys)
    assert exported.status == 0, exported.err
    assert hashlib.sha256(file.read_bytes()).hexdigest() == key.sha256
    assert key.sha256 in exported.out
    piped = await circuit("export", SMALL.name, variables=with_keys)
    assert bytes.fromhex(piped.out.strip()) == file.read_bytes()
    assert key.sha256 in piped.err
    as_json = await circuit("export", SMALL.name, "--snarkjs", variables=with_keys)
    assert json.loads(as_json.out)["protocol"] == "groth16"
    refused = await circuit("export", SMALL.name, "--out", str(tmp_path), variables=with_keys)
    assert refused.status == 1
    assert f"{tmp_path} cannot be written: Is a directory" in refused.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("make", "7x7"), "7x7 is no shape: there are 16x8"),
        (("import", SMALL.name, "key.zkey", "--sha256", "ab"), "64 hexadecimal digits"),
    ],
)
async def test_a_wrong_command_line_is_told(arguments: tuple[str, ...], said: str, with_keys: Variables) -> None:
    refused = await circuit(*arguments, variables=with_keys)
    assert refused.status == 2
    assert said in " ".join(refused.err.replace("│", " ").split())


async def test_a_proving_worker_refuses_a_key_that_is_not_the_registered_one_naming_both(
    with_keys: Variables, key: VerifyingKey, client: Client
) -> None:
    # It knows nothing of the ledger: only Temporal and the key files.
    variables = {name: value for name, value in with_keys.items() if name.startswith("TEMPORAL")}
    variables |= {**SMALL_ONLY, "CROUPIER_CIRCUIT_KEYS": with_keys["CROUPIER_CIRCUIT_KEYS"]}
    async with settlement_worker(client, on_chain(OTHER_DIGEST)):
        line = await proving_worker(variables)
    assert line.startswith("worker: the proving key of shape 16x8 belongs to verifying key ")
    assert key.sha256 in line
    assert OTHER_DIGEST in line
    assert "CROUPIER_CIRCUIT_KEYS" in line


@pytest.mark.parametrize("bets", [None, 15])
async def test_a_circuit_that_is_not_registered_or_has_other_sizes_is_refused(
    bets: int | None, with_keys: Variables, key: VerifyingKey, client: Client
) -> None:
    registered = on_chain(key.sha256, bets=bets or SMALL.bets)
    if bets is None:
        registered = registered.model_copy(update={"circuits": ()})
    async with settlement_worker(client, registered):
        line = await proving_worker(with_keys)
    assert key.sha256 in line
    assert ("circuit register 16x8" if bets is None else "(15x8)") in line


async def test_a_proving_worker_refuses_a_development_key_off_the_local_ledger_unless_told_to_accept_it(
    with_keys: Variables, key: VerifyingKey, client: Client, tmp_path: Path
) -> None:
    async with settlement_worker(client, on_chain(key.sha256, local=False)):
        line = await proving_worker(with_keys)
        assert "is not a local ledger" in line
        assert (
            "circuit keys of 16x8 are for development or from a rehearsal: whoever made them can forge proofs" in line
        )
        assert ACCEPT_FORGEABLE_KEYS in line
        name, _, value = ACCEPT_FORGEABLE_KEYS.partition("=")
        with environment({**with_keys, name: value}):
            command = [sys.executable, "worker.py", "--queues", "proving"]
            worker = await processes.start("worker", command, log=tmp_path / "worker.log", folder=ROOT)
        try:
            await worker.wait_for_line("worker ready", READY_SECONDS)
        finally:
            await processes.stop(worker)
    log = (tmp_path / "worker.log").read_text()
    assert "development: unsafe for funds" in log
    assert key.sha256 in log


async def test_a_proving_worker_that_waits_for_an_answer_stops_when_it_is_told(
    with_keys: Variables, key: VerifyingKey, tmp_path: Path
) -> None:
    with environment(with_keys):
        command = [sys.executable, "worker.py", "--queues", "proving"]
        worker = await processes.start("worker", command, log=tmp_path / "worker.log", folder=ROOT)
    try:
        await worker.wait_for_line(key.sha256, READY_SECONDS)
    finally:
        worker.process.send_signal(signal.SIGTERM)
        try:
            status = await asyncio.wait_for(worker.process.wait(), STOP_SECONDS)
        finally:
            await processes.stop(worker)
    assert status == 0
    assert "Traceback" not in (tmp_path / "worker.log").read_text()


async def test_a_key_that_a_worker_loads_later_is_held_against_what_the_chain_has_then(
    with_keys: Variables, key: VerifyingKey
) -> None:
    bets = [Bet(bet_id="bet", player="1" * 32, stake=1_000, guess="heads", outcome="heads")]
    batch = statement_for(0, 1, bets, {"1" * 32: 1})
    ledger = FakeLedger(registered=on_chain(OTHER_DIGEST))
    with environment(with_keys):
        settings = Settings()
    with closing(Groth16Prover(settings.circuit_keys, [])) as prover:
        await require_chain_keys(prover, ledger.circuits, settings)
        with pytest.raises(KeyRefused, match=OTHER_DIGEST):
            await prover.prove(batch)
        ledger.registered = on_chain(key.sha256, local=False)
        with pytest.raises(KeyRefused, match="is not a local ledger"):
            await prover.prove(batch)
        ledger.registered = on_chain(key.sha256)
        assert (await prover.prove(batch)).public_input == batch.public_input


async def test_without_a_settlement_worker_a_proving_worker_says_what_it_waits_for_and_gives_up(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "REMINDER_SECONDS", 0.01)
    reminders: list[float] = []
    with pytest.raises(CircuitsUnknown, match=r"no settlement worker has said.*--queues settlement"):
        async with asyncio.timeout(STOP_SECONDS):
            await registered_circuits(client, reminders.append, patience_seconds=0.3)
    assert len(reminders) > 1


async def test_every_worker_that_asks_is_told_what_the_chain_holds_now(client: Client) -> None:
    async with settlement_worker(client, on_chain(OTHER_DIGEST)) as ledger:
        assert await registered_circuits(client, lambda _: None) == ledger.registered
        ledger.registered = on_chain("cd" * 32)
        assert await registered_circuits(client, lambda _: None) == ledger.registered


async def test_what_the_settlement_worker_cannot_tell_is_told(client: Client) -> None:
    async with settlement_worker(client, on_chain(OTHER_DIGEST)) as ledger:
        ledger.script.fail("circuits", LedgerMisconfigured("the node does not serve accounts"))
        with pytest.raises(CircuitsUnknown, match="the node does not serve accounts"):
            await registered_circuits(client, lambda _: None)


@pytest.mark.parametrize(
    ("version", "genesis", "local"),
    [
        ({"solana-core": "3.0.0"}, "1" * 32, False),
        ({"solana-core": "3.0.0", "croupier-localnet": True}, "1" * 32, True),
        ({"solana-core": "3.0.0", "croupier-localnet": True}, next(iter(PUBLIC_CLUSTERS)), False),
    ],
)
async def test_only_a_node_that_says_so_and_serves_no_public_chain_is_the_local_ledger(
    version: dict[str, object], genesis: str, local: bool
) -> None:
    async with serving(ScriptedNode()) as node, RpcClient(node.url) as rpc:
        node.answers = {"getVersion": lambda _: version, "getGenesisHash": lambda _: genesis}
        assert await is_local_ledger(rpc) is local


async def test_no_development_key_is_made_or_registered_on_a_cluster(
    with_keys: Variables, tmp_path: Path, rpc_url: str
) -> None:
    async with RpcClient(rpc_url) as rpc:
        assert await is_local_ledger(rpc), "the ledger that these tests run on"
    async with serving(ScriptedNode()) as node:
        node.answers = {"getVersion": lambda _: {"solana-core": "3.0.0"}, "getGenesisHash": lambda _: "1" * 32}
        variables = {
            **with_keys,
            "CROUPIER_RPC_URL": node.url,
            "CROUPIER_PROGRAM_KEYPAIR": str(tmp_path / "program.json"),
            "CROUPIER_CIRCUIT_KEYS": str(tmp_path / "none"),
        }
        with environment(variables):
            settings = Settings()
        with pytest.raises(KeyRefused, match=ACCEPT_FORGEABLE_KEYS):
            await provision(settings, bankroll_lamports=0, faucet=True, progress=lambda _what, _part: None)
        assert {method for method, _ in node.calls} <= {"getVersion", "getGenesisHash"}
        assert not (tmp_path / "none").exists()
