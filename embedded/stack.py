"""Starts the embedded stack on a state directory, and stops it in order. State survives; a second start goes on with it."""

import asyncio
import fcntl
import os
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from temporalio.client import Client

from client.connection import TemporalUnreachable, connect
from embedded.processes import POLL_SECONDS, Child, ChildFailed, free_port, start, stop
from operations.provisioning import LAMPORTS_PER_SOL, Progress, provision, register_search_attributes
from settings import PREFIX, STACK_ENV, Settings, load_settings
from settlement.circuits import CircuitKey
from settlement.limits import MAX_IN_FLIGHT_UPDATE_BYTES

HOST: Final = "127.0.0.1"
UPDATE_BYTES_SETTING: Final = "history.maxInFlightUpdatePayloads"
TEMPORAL_PORT: Final = 7233
WEB_UI_PORT: Final = 8233
RPC_PORT: Final = 8899
READY_SECONDS: Final = 60.0
"""How long a child may take to be ready, on a slow and busy machine."""

BANKROLL_LAMPORTS: Final = 20 * LAMPORTS_PER_SOL
"""What each house is topped up to."""

CLUSTER_SLOT_MS: Final = 400
"""As on a real cluster."""

BIN: Final = Path(sys.executable).parent
ROOT: Final = Path(__file__).parent.parent


class StackBusy(Exception):
    """Another stack runs on the same state directory."""


@dataclass(frozen=True)
class Stack:
    """A running embedded stack."""

    settings: Settings
    client: Client
    temporal_address: str
    web_ui: str
    rpc_url: str
    children: tuple[Child, ...]
    circuits: tuple[CircuitKey, ...]

    async def wait_until_broken(self) -> None:
        """Returns never, unless a child ends by itself: then raises `ChildFailed`."""
        ends = {asyncio.ensure_future(child.process.wait()): child for child in self.children}
        try:
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
        child = ends[done.pop()]
        raise child.failure(f"ended with status {child.process.returncode}")


@asynccontextmanager
async def running_stack(
    var: Path, defaults: dict[str, str], progress: Progress, *, slot_ms: int = CLUSTER_SLOT_MS
) -> AsyncGenerator[Stack]:
    """Runs the stack on directory `var`. `defaults`: settings (environment variables) that hold where none is set from outside.

    `slot_ms`: length of the local ledger's slots; shorter ones make everything final sooner.
    Raises `StackBusy`, `ChildFailed`, or what provisioning raises.
    """
    try:
        (var / "log").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ChildFailed(f"{var} cannot be made: {error.strerror}") from None
    with _only_one_on(var):
        async with AsyncExitStack() as exits:

            async def started(name: str, *command: str | Path) -> Child:
                child = await start(name, command, log=var / "log" / f"{name}.log", folder=ROOT)
                exits.push_async_callback(stop, child)
                return child

            # Neither a stack that was killed nor Temporal settings for another server may have a say here.
            (var / STACK_ENV.name).unlink(missing_ok=True)
            for name in [name for name in os.environ if name.startswith("TEMPORAL_")]:
                del os.environ[name]
            (var / "temporal.toml").touch()

            ports = {port: free_port(port) for port in (TEMPORAL_PORT, WEB_UI_PORT, RPC_PORT)}
            address, rpc_url = f"{HOST}:{ports[TEMPORAL_PORT]}", f"http://{HOST}:{ports[RPC_PORT]}"
            environment = {
                **{name: value for name, value in defaults.items() if name not in os.environ},
                "TEMPORAL_ADDRESS": address,
                "TEMPORAL_CONFIG_FILE": str(var / "temporal.toml"),
                "CROUPIER_RPC_URL": rpc_url,
                "CROUPIER_JOURNAL_URL": f"sqlite:///{var / 'journal.db'}",
                "CROUPIER_AUTHORITY_KEYPAIR": str(var / "keys" / "authority.json"),
                "CROUPIER_PROGRAM_KEYPAIR": str(var / "keys" / "program.json"),
                "CROUPIER_CIRCUIT_KEYS": str(var / "circuits"),
            }
            # Children and this process read the same settings, so that the stack cannot disagree with itself.
            os.environ.update(environment)
            progress("Temporal and the local ledger", 0)
            temporal = await started(
                "temporal",
                BIN / "temporal",
                *("server", "start-dev", "--ip", HOST, "--port", str(ports[TEMPORAL_PORT])),
                *(
                    "--ui-port",
                    str(ports[WEB_UI_PORT]),
                    "--db-filename",
                    str(var / "temporal.db"),
                    "--log-level",
                    "warn",
                ),
                *("--dynamic-config-value", f"{UPDATE_BYTES_SETTING}={MAX_IN_FLIGHT_UPDATE_BYTES}"),
            )
            ledger = await started(
                "ledger",
                *(sys.executable, "-m", "localnet", "--db", str(var / "ledger.db")),
                *("--host", HOST, "--port", str(ports[RPC_PORT]), "--slot-ms", str(slot_ms)),
            )
            await ledger.wait_for_line("ready at", READY_SECONDS)
            client = await _connected(temporal)
            await register_search_attributes(client)
            progress("Temporal and the local ledger", 1)

            provisioned = await provision(
                load_settings(), bankroll_lamports=BANKROLL_LAMPORTS, faucet=True, progress=progress
            )
            os.environ["CROUPIER_PROGRAM_ID"] = environment["CROUPIER_PROGRAM_ID"] = str(provisioned.program_id)
            progress("worker", 0)
            worker = await started("worker", sys.executable, ROOT / "worker.py")
            await worker.wait_for_line("worker ready", READY_SECONDS)
            progress("worker", 1)
            # Other terminals' commands find the stack by this file (`settings.load_settings`), what was set from outside included:
            # with another number of lanes, say, they would send bets to wrong ones.
            environment |= {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
            told = var / STACK_ENV.name
            told.write_text("".join(f"{name}={_quoted(value)}\n" for name, value in environment.items()))
            exits.callback(told.unlink, missing_ok=True)
            yield Stack(
                settings=load_settings(),
                client=client,
                temporal_address=address,
                web_ui=f"http://{HOST}:{ports[WEB_UI_PORT]}",
                rpc_url=rpc_url,
                children=(temporal, ledger, worker),
                circuits=provisioned.circuits,
            )


async def _connected(temporal: Child) -> Client:
    started_at = asyncio.get_running_loop().time()
    while True:
        try:
            return await connect()
        except TemporalUnreachable:
            if temporal.process.returncode is not None:
                raise temporal.failure(f"ended with status {temporal.process.returncode}") from None
            if asyncio.get_running_loop().time() - started_at > READY_SECONDS:
                raise temporal.failure(f"was not ready after {READY_SECONDS:.0f} seconds") from None
            await asyncio.sleep(POLL_SECONDS)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


@contextmanager
def _only_one_on(var: Path) -> Generator[None]:
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
