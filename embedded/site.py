"""Where a stack keeps its state and listens: its processes' command lines follow from it, and the settings that they share.

It starts nothing: who runs a stack, and how long each process lives, is decided elsewhere.
"""

import fcntl
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from embedded.processes import ChildFailed, free_port
from settlement.limits import MAX_BUFFERED_EVENT_BYTES, MAX_BUFFERED_EVENTS, MAX_IN_FLIGHT_UPDATE_BYTES
from workflows.visibility import SEARCH_ATTRIBUTES

HOST: Final = "127.0.0.1"
TEMPORAL_SETTINGS: Final = {
    "history.maxInFlightUpdatePayloads": MAX_IN_FLIGHT_UPDATE_BYTES,
    "history.maximumBufferedEventsBatch": MAX_BUFFERED_EVENTS,
    "history.maximumBufferedEventsSizeInBytes": MAX_BUFFERED_EVENT_BYTES,
}
"""Of Temporal's dynamic configuration, what lanes under load need; `deploy/temporal/dynamic-config.yaml` has the same."""

ONE_MACHINE_SETTINGS: Final = {
    "matching.numTaskqueueReadPartitions": 1,
    "matching.numTaskqueueWritePartitions": 1,
}
"""A task queue is for a few workers here: in several parts, its tasks and pollers would have to find each other by further calls."""

TEMPORAL_OPTIONS: Final = tuple(
    part
    for name, value in (TEMPORAL_SETTINGS | ONE_MACHINE_SETTINGS).items()
    for part in ("--dynamic-config-value", f"{name}={value}")
)
"""The same as the dev server takes them."""

TEMPORAL_ENVIRONMENT: Final = ("env", "GOGC=400", f"GOMAXPROCS={max(1, (os.cpu_count() or 1) // 2)}")
"""Go's collector runs less often than by default, at some memory, and no more threads at once than half the cores, which it shares with
all others: with one for each it spends much of its time on waking them."""

TEMPORAL_PORT: Final = 7233
WEB_UI_PORT: Final = 8233
RPC_PORT: Final = 8899

CLUSTER_SLOT_MS: Final = 400
"""As on a real cluster."""

TEMPORAL_READY: Final = "Temporal Server:"
LEDGER_READY: Final = "ready at"
WORKER_READY: Final = "worker ready"
"""What a process prints once it serves."""

_TYPES: Final = {int: "Int", str: "Keyword"}

BIN: Final = Path(sys.executable).parent
ROOT: Final = Path(__file__).parent.parent


class StackBusy(Exception):
    """Another stack runs on the same state directory."""


@dataclass(frozen=True)
class Site:
    """A stack's state directory and ports."""

    var: Path
    temporal_port: int
    web_ui_port: int
    rpc_port: int

    @classmethod
    def on(cls, var: Path, *, ports_from: int = 0) -> "Site":
        """With the usual ports, moved up by `ports_from`, or the next free ones above. Raises `ChildFailed`."""
        return cls(var, *(free_port(port + ports_from) for port in (TEMPORAL_PORT, WEB_UI_PORT, RPC_PORT)))

    @property
    def temporal_address(self) -> str:
        return f"{HOST}:{self.temporal_port}"

    @property
    def web_ui(self) -> str:
        return f"http://{HOST}:{self.web_ui_port}"

    @property
    def rpc_url(self) -> str:
        return f"http://{HOST}:{self.rpc_port}"

    @property
    def journal(self) -> Path:
        return self.var / "journal.db"

    @property
    def program_keypair(self) -> Path:
        return self.var / "keys" / "program.json"

    def log(self, name: str) -> Path:
        """Where a process's output goes."""
        return self.var / "log" / f"{name}.log"

    def make(self) -> None:
        """Makes the directory as the processes need it. Raises `ChildFailed`."""
        try:
            (self.var / "log").mkdir(parents=True, exist_ok=True)
            self._temporal_settings.touch()
        except OSError as error:
            raise ChildFailed(f"{self.var} cannot be made: {error.strerror}") from None

    def environment(self) -> dict[str, str]:
        """The settings that follow from the site."""
        return {
            "TEMPORAL_ADDRESS": self.temporal_address,
            # Temporal settings of whoever runs the stack, which may be for another server, must not have a say in it.
            "TEMPORAL_CONFIG_FILE": str(self._temporal_settings),
            "CROUPIER_RPC_URL": self.rpc_url,
            "CROUPIER_JOURNAL_URL": f"sqlite:///{self.journal}",
            "CROUPIER_AUTHORITY_KEYPAIR": str(self.var / "keys" / "authority.json"),
            "CROUPIER_PROGRAM_KEYPAIR": str(self.program_keypair),
            "CROUPIER_CIRCUIT_KEYS": str(self.var / "circuits"),
        }

    def temporal_command(self) -> list[str | Path]:
        """Temporal's dev server on a file. It prints `TEMPORAL_READY`."""
        return [
            *TEMPORAL_ENVIRONMENT,
            *(BIN / "temporal", "server", "start-dev", "--ip", HOST, "--port", str(self.temporal_port)),
            *(
                "--ui-port",
                str(self.web_ui_port),
                "--db-filename",
                str(self.var / "temporal.db"),
                "--log-level",
                "warn",
            ),
            # As durable as SQLite's default, at three quarters of the work.
            *("--sqlite-pragma", "journal_mode=wal"),
            *TEMPORAL_OPTIONS,
            # Known before anybody asks, they need not be looked for at every request, as the dev server does by itself.
            *("--dynamic-config-value", "system.forceSearchAttributesCacheRefreshOnRead=false"),
            *(
                part
                for key in SEARCH_ATTRIBUTES
                for part in ("--search-attribute", f"{key.name}={_TYPES[key.value_type]}")
            ),
        ]

    def ledger_command(self, slot_ms: int) -> list[str | Path]:
        """The local ledger; `slot_ms`: length of its slots. It prints `LEDGER_READY`."""
        return [
            *(sys.executable, "-m", "localnet", "--db", str(self.var / "ledger.db")),
            *("--host", HOST, "--port", str(self.rpc_port), "--slot-ms", str(slot_ms)),
        ]

    @property
    def _temporal_settings(self) -> Path:
        return self.var / "temporal.toml"


@contextmanager
def only_one_on(var: Path) -> Generator[None]:
    """Holds the state directory, which must exist. Raises `StackBusy`, `ChildFailed`."""
    try:
        lock = (var / "stack.lock").open("w")
    except OSError as error:
        raise ChildFailed(f"{var} cannot be written to: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackBusy(
                f"a stack is running on {var} already: use it (`python starter.py --help`), or stop it with Ctrl-C first"
            ) from None
        yield
