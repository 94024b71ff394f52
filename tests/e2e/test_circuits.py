"""The keys of a running stack, seen, registered and held against the chain from another terminal."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from prover.keys import key_files, load_verifying_key
from prover.storing import put
from settlement.circuits import KeyOrigin
from settlement.shapes import DEFAULT_SHAPES, Shape
from tests.e2e.machine import Finished, Machine, run

SMALL, LARGE = DEFAULT_SHAPES


async def command(machine: Machine, *arguments: str, **variables: str) -> Finished:
    return await run([sys.executable, *arguments], {"CROUPIER_VAR": str(machine.var), **variables})


@pytest.fixture
def wrong_keys(machine: Machine, tmp_path: Path) -> Path:
    """The stack's keys, but for the small shape the large one's under its name."""
    keys = shutil.copytree(machine.stack.settings.circuit_keys, tmp_path / "circuits")
    files = key_files(keys, LARGE)
    (tmp_path / "drafts").mkdir()
    put(
        keys,
        SMALL,
        KeyOrigin.DEVELOPMENT,
        proving_key=Path(shutil.copy(files.proving_key, tmp_path / "drafts" / "proving_key")),
        verifying_key=Path(shutil.copy(files.verifying_key, tmp_path / "drafts" / "verifying_key")),
    )
    return keys


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
    assert f"another key, {digests(machine, wrong_keys)[0][:16]}" in table.out


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


async def test_a_worker_of_both_queues_does_not_start_with_another_key_than_the_chain_has(
    machine: Machine, wrong_keys: Path
) -> None:
    refused = await command(machine, "worker.py", CROUPIER_CIRCUIT_KEYS=str(wrong_keys))
    assert refused.status == 1
    assert "worker ready" not in refused.out
    line = refused.err.splitlines()[-1]
    assert line.startswith("worker: the proving key of shape 16x8 belongs to ")
    for digest in digests(machine, wrong_keys):
        assert digest in line
