"""Child processes that end with their parent, and free ports for them. Ends only what it has started."""

import asyncio
import ctypes
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

STOP_GRACE_SECONDS: Final = 15.0
"""How long a child may take to stop by itself before it is killed."""

PORTS_TRIED: Final = 100
"""From the preferred one on."""

POLL_SECONDS: Final = 0.1
LOG_TAIL_BYTES: Final = 4_000
LOG_TAIL_LINES: Final = 8
PR_SET_PDEATHSIG: Final = 1
"""`prctl(2)`, Linux."""


class ChildFailed(Exception):
    """A child process that did not come up or ended by itself. The text shows the end of its log."""


@dataclass(frozen=True)
class Child:
    """A running child process. All it prints goes to `log`."""

    name: str
    process: asyncio.subprocess.Process
    log: Path

    def failure(self, what: str) -> ChildFailed:
        """What to tell people about this child."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - LOG_TAIL_BYTES))
            tail = file.read().decode(errors="replace").strip().splitlines()[-LOG_TAIL_LINES:]
        lines = "\n  ".join(tail) or "(it printed nothing)"
        return ChildFailed(f"{self.name} {what}; the end of {self.log}:\n  {lines}")

    async def wait_for_line(self, text: str, timeout_seconds: float) -> None:
        """Returns once the child has printed `text`. Raises `ChildFailed` if it ends first or takes too long."""
        started_at = asyncio.get_running_loop().time()
        while text not in self.log.read_text(errors="replace"):
            if self.process.returncode is not None:
                raise self.failure(f"ended with status {self.process.returncode}")
            if asyncio.get_running_loop().time() - started_at > timeout_seconds:
                raise self.failure(f"was not ready after {timeout_seconds:.0f} seconds")
            await asyncio.sleep(POLL_SECONDS)


async def start(
    name: str, command: Sequence[str | Path], *, log: Path, folder: Path, environment: Mapping[str, str] | None = None
) -> Child:
    """Starts a child in a session of its own, so that a Ctrl-C reaches only the parent, which stops children in order.

    `environment`: the child's; its parent's if None.
    """
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            cwd=folder,
            env=environment,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
    return Child(name, process, log)


async def stop(child: Child) -> None:
    """Asks the child to stop, and kills it if it does not within the grace."""
    if child.process.returncode is not None:
        return
    child.process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(child.process.wait(), STOP_GRACE_SECONDS)
    except TimeoutError:
        child.process.kill()
        await child.process.wait()


def free_port(preferred: int) -> int:
    """`preferred` if nobody listens there, else the next free port above: programs that let the system choose do not meet there."""
    for port in range(preferred, preferred + PORTS_TRIED):
        with socket.socket() as candidate:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ChildFailed(f"none of the ports {preferred} to {preferred + PORTS_TRIED - 1} is free")


def _end_with_parent() -> None:
    # Without this, children outlive a parent that is killed with SIGKILL and hold on to ports and databases.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
