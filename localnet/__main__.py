"""`python -m localnet`: serve a local Solana ledger until SIGTERM or SIGINT."""

import asyncio
import logging
import signal
import sys
from pathlib import Path
from typing import Annotated

import structlog
import typer
import uvloop

from .errors import LedgerUnusable
from .server import serve

MILLISECONDS_PER_SECOND = 1000
LOG_LEVELS = ("debug", "info", "warning", "error")


def main(
    db: Annotated[Path, typer.Option(help="Database file; created when missing. Holds the faucet's key.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 finds a free one.")] = 8899,
    slot_ms: Annotated[
        int, typer.Option(min=5, max=60_000, help="Length of a slot in milliseconds; a cluster's is 400.")
    ] = 400,
    faults: Annotated[
        bool, typer.Option("--faults", help="Serve the JSON-RPC extension that makes faults; see docs/local-ledger.md.")
    ] = False,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error; logs go to stderr.")] = "warning",
) -> None:
    """Serve a local Solana ledger: JSON-RPC over HTTP, real SVM execution, durable across kill -9.

    Prints one line with its URL when ready. GET /health answers "ok". For development only: anyone who can reach it
    may draw lamports with requestAirdrop.

    Example: python -m localnet --db var/localnet.db --port 8899
    """
    if log_level not in LOG_LEVELS:
        raise typer.BadParameter(f"must be one of {', '.join(LOG_LEVELS)}", param_hint="--log-level")
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[log_level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        uvloop.run(_serve_until_stopped(db, host, port, slot_ms / MILLISECONDS_PER_SECOND, faults))
    except LedgerUnusable as error:
        typer.echo(f"localnet: {error}", err=True)
        raise typer.Exit(1) from error


async def _serve_until_stopped(db: Path, host: str, port: int, slot_seconds: float, faults: bool) -> None:
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    async with serve(db, host, port, slot_seconds, with_faults=faults) as running:
        typer.echo(f"local Solana ledger ready at {running.url}")
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({stopped, running.slots}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()


if __name__ == "__main__":
    typer.run(main)
