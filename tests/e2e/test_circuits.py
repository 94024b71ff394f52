"""The keys of a running stack, seen, registered and held against the chain from another terminal."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from embedded.site import BIN
from ledger.rpc import RpcClient
from operations import circuits
from operations.circuits import register_circuits
from prover.keys import load_verifying_key
from settlement.circuits import ACCEPT_FORGEABLE_KEYS
from settlement.errors import KeyRefused
from settlement.shapes import DEFAULT_SHAPES, Shape
from tests.e2e.machine import Finished, Machine, run
from tests.prover.copying import put_copy

SMALL, LARGE = DEFAULT_SHAPES


async def command(machine: Machine, *arguments: str, **variables: str) -> Finished:
    return await run([sys.executable, *arguments], {"CROUPIER_VAR": str(machine.var), **variables})


@pytest.fixture
def wrong_keys(machine: Machine, tmp_path: Path) -> Path:
    """The stack's keys, but for the small shape the large one's under its name."""
    keys = shutil.copytree(machine.stack.settings.circuit_keys, tmp_path / "circuits")
    make_wrong(keys)
    return keys


def make_wrong(keys: Path) -> None:
    put_copy(keys, SMALL, of=keys, of_shape=LARGE)


def digests(machine: Machine, wrong_keys: Path) -> tuple[str, str]:
    """Of the small shape's key on chain, and of the wrong one."""
    return _digest(machine.stack.settings.circuit_keys, SMALL), _digest(wrong_keys, SMALL)


def _digest(keys: Path, shape: Shape) -> str:
    return load_verifying_key(keys, shape).sha256


async def test_the_list_holds_the_keys_against_the_chain_without_an_authority_key(
    machine: Machine, wrong_keys: Path
) -> None:
    shown = await command(machine, "starter.py", "circuit", "list", "--json", CROUPIER_AUTHORITY_KEYPAIR="absent")
    assert shown.status == 0, shown.err
    view = json.loads(shown.out)
    assert [circuit["on_chain"] for circuit in view["circuits"]] == ["this key"] * 2 + ["not registered"] * 2
    assert view["place"].startswith(f"program {machine.stack.settings.program_id} on ")
    table = await command(machine, "starter.py", "circuit", "list", CROUPIER_CIRCUIT_KEYS=str(wrong_keys))
    registered, _ = digests(machine, wrong_keys)
    assert f"another key, {registered[:16]}" in table.out
    assert f"circuit {SMALL.circuit_id} (16x8), verifying key {registered}: NOT the key here" in table.out


async def test_registering_again_is_harmless_and_another_key_is_refused_naming_both(
    machine: Machine, wrong_keys: Path
) -> None:
    again = await command(machine, "starter.py", "circuit", "register")
    assert again.status == 0, again.err
    assert again.out.count("was registered already") == 2
    refused = await command(
        machine, "starter.py", "circuit", "register", SMALL.name, CROUPIER_CIRCUIT_KEYS=str(wrong_keys)
    )
    assert refused.status == 1
    for digest in digests(machine, wrong_keys):
        assert digest in refused.err


async def test_the_key_that_was_checked_is_the_one_that_is_registered_and_told_of(
    machine: Machine, tmp_path: Path
) -> None:
    keys = shutil.copytree(machine.stack.settings.circuit_keys, tmp_path / "circuits")
    settings = machine.stack.settings.model_copy(update={"circuit_keys": keys})
    [(key, added)] = await register_circuits(settings, [SMALL], lambda _: make_wrong(keys))
    assert not added
    assert key.sha256 == _digest(machine.stack.settings.circuit_keys, SMALL) != _digest(keys, SMALL)


async def test_a_development_key_is_not_registered_where_the_ledger_is_not_local(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nowhere(_: RpcClient) -> bool:
        return False

    monkeypatch.setattr(circuits, "is_local_ledger", nowhere)
    settings = machine.stack.settings
    with pytest.raises(
        KeyRefused, match=rf"is not a local ledger, and the circuit keys of 16x8.*{ACCEPT_FORGEABLE_KEYS}"
    ):
        await register_circuits(settings, [SMALL], lambda _: None)
    accepting = settings.model_copy(update={"accept_forgeable_development_keys": True})
    assert [added for _, added in await register_circuits(accepting, [SMALL], lambda _: None)] == [False]


async def test_a_worker_of_both_queues_does_not_start_with_another_key_than_the_chain_has(
    machine: Machine, wrong_keys: Path
) -> None:
    """It looks itself, before any work: settlement work would be logged as `lane` and leave a Batcher and a schedule."""
    async with await WorkflowEnvironment.start_local(dev_server_existing_path=str(BIN / "temporal")) as temporal:  # pyright: ignore[reportUnknownMemberType]
        refused = await command(
            machine,
            "worker.py",
            CROUPIER_CIRCUIT_KEYS=str(wrong_keys),
            TEMPORAL_ADDRESS=temporal.client.service_client.config.target_host,
        )
        left = [workflow.id async for workflow in temporal.client.list_workflows()]
        schedules = [schedule.id async for schedule in await temporal.client.list_schedules()]
    assert refused.status == 1
    assert "worker ready" not in refused.out
    assert "lane " not in refused.err
    assert (left, schedules) == ([], [])
    line = refused.err.splitlines()[-1]
    assert line.startswith("worker: the proving key of shape 16x8 belongs to ")
    for digest in digests(machine, wrong_keys):
        assert digest in line
