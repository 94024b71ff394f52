"""docs/local-ledger.md says what the extension does: its kinds, methods, bounds and examples."""

import json
import re
import shlex
from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit

from localnet.extension import SKIPPED_SLOTS_MAX
from localnet.fault_kinds import BEHIND_BLOCKS_MAX, FAULT_SECONDS_MAX, Fault
from localnet.faults import FAULTS_MAX, HANG_SECONDS_MAX, HANGING_MAX
from localnet.ledger import STATUS_BLOCKS_MAX
from localnet.node import NODES
from localnet.server import REQUESTS_IN_FLIGHT_MAX
from tests.localnet.support import Cluster, connect

TEXT = (Path(__file__).parents[2] / "docs" / "local-ledger.md").read_text()
METHODS = {"croupierInjectFault", "croupierFaults", "croupierClearFaults", "croupierFork", "croupierSkipSlots"}


async def test_the_examples_work(nodes: tuple[Cluster, Cluster]) -> None:
    commands = [shlex.split(line) for line in TEXT.splitlines() if line.startswith("curl ")]
    shown: set[str] = set()
    for command in commands:
        request = json.loads(command[command.index("-d") + 1])
        shown.add(request["method"])
        async with connect(nodes[0].url + urlsplit(command[2]).path) as node:
            await node.result(request["method"], *request["params"])
    assert shown >= METHODS


def test_every_kind_and_method_stands_in_its_table() -> None:
    rows = re.findall(r"^\| `(\w+)`", TEXT, re.MULTILINE)
    kinds = {get_args(model.model_fields["kind"].annotation)[0] for model in get_args(Fault)}
    assert set(rows) == METHODS | kinds


def test_the_bounds_are_those_of_the_code() -> None:
    for number in (
        f"at most {FAULT_SECONDS_MAX:,.0f}",
        f"At most {FAULTS_MAX} are active",
        f"At most {HANGING_MAX} hang",
        f"after {HANG_SECONDS_MAX:.0f} s",
        f"at most {BEHIND_BLOCKS_MAX:,}",
        f"at most {SKIPPED_SLOTS_MAX:,}",
        f"last {STATUS_BLOCKS_MAX}",
        f"`blocks` ({STATUS_BLOCKS_MAX})",
        f"i from 0 to {NODES - 1}",
        f"{REQUESTS_IN_FLIGHT_MAX:,}, then HTTP 429",
    ):
        assert number in " ".join(TEXT.split()), number
