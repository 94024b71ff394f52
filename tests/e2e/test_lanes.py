"""Once players have vaults, no other number of lanes than theirs is worked on or set up."""

import sys

import pytest

from tests.e2e.machine import Machine, run


@pytest.mark.parametrize("command", [("worker.py",), ("starter.py", "provision")])
async def test_a_worker_and_provisioning_refuse_to_add_lanes_once_there_are_vaults(
    machine: Machine, command: tuple[str, ...]
) -> None:
    refused = await run([sys.executable, *command], {"CROUPIER_VAR": str(machine.var), "CROUPIER_LANES": "2"})
    assert refused.status == 1, refused
    assert "was set up with 1 lanes, and CROUPIER_LANES is 2: set it to 1." in refused.err.splitlines()[-1]
    assert "must never change while there are vaults" in refused.err.splitlines()[-1]
