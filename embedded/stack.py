"""Starts the embedded stack on a state directory, and stops it in order. State survives; a second start goes on with it."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from temporalio.client import Client

from client.connection import TemporalUnreachable, connect
from embedded.processes import POLL_SECONDS, Child, start, stop
from embedded.site import CLUSTER_SLOT_MS, LEDGER_READY, ROOT, WORKER_READY, Site, only_one_on
from operations.provisioning import LAMPORTS_PER_SOL, Progress, provision, register_search_attributes
from settings import PREFIX, STACK_ENV, Settings, load_settings
from settlement.circuits import CircuitKey

READY_SECONDS: Final = 60.0
"""How long a child may take to be ready, on a slow and busy machine."""

BANKROLL_LAMPORTS: Final = 20 * LAMPORTS_PER_SOL
"""What each house is topped up to."""

WORKER: Final = (sys.executable, ROOT / "worker.py")


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
    var: Path,
    defaults: dict[str, str],
    progress: Progress,
    *,
    slot_ms: int = CLUSTER_SLOT_MS,
    bankroll_lamports: int = BANKROLL_LAMPORTS,
    worker_command: Sequence[str | Path] = WORKER,
) -> AsyncGenerator[Stack]:
    """Runs the stack on directory `var`. `defaults`: settings (environment variables) that hold where none is set from outside.

    `slot_ms`: length of the local ledger's slots; shorter ones make everything final sooner. `bankroll_lamports`: what each house is
    topped up to. `worker_command`: what runs the worker, under a profiler, say.
    Raises `StackBusy`, `ChildFailed`, or what provisioning raises.
    """
    site = Site.on(var)
    site.make()
    with only_one_on(var):
        async with AsyncExitStack() as exits:

            async def started(name: str, *command: str | Path) -> Child:
                child = await start(name, command, log=site.log(name), folder=ROOT)
                exits.push_async_callback(stop, child)
                return child

            # Neither a stack that was killed nor Temporal settings for another server may have a say here.
            (var / STACK_ENV.name).unlink(missing_ok=True)
            for name in [name for name in os.environ if name.startswith("TEMPORAL_")]:
                del os.environ[name]
            environment = {
                **{name: value for name, value in defaults.items() if name not in os.environ},
                **site.environment(),
            }
            # Children and this process read the same settings, so that the stack cannot disagree with itself.
            os.environ.update(environment)
            progress("Temporal and the local ledger", 0)
            temporal = await started("temporal", *site.temporal_command())
            ledger = await started("ledger", *site.ledger_command(slot_ms))
            await ledger.wait_for_line(LEDGER_READY, READY_SECONDS)
            client = await _connected(temporal)
            await register_search_attributes(client)
            progress("Temporal and the local ledger", 1)

            provisioned = await provision(
                load_settings(), bankroll_lamports=bankroll_lamports, faucet=True, progress=progress
            )
            os.environ["CROUPIER_PROGRAM_ID"] = environment["CROUPIER_PROGRAM_ID"] = str(provisioned.program_id)
            progress("worker", 0)
            worker = await started("worker", *worker_command)
            await worker.wait_for_line(WORKER_READY, READY_SECONDS)
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
                temporal_address=site.temporal_address,
                web_ui=site.web_ui,
                rpc_url=site.rpc_url,
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
