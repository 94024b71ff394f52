"""Forks of itself run our programs: most of the time that `python PROGRAM` takes to start goes into loading libraries.

Loads nothing of ours, so that each program loads its modules anew, under its own settings, as it always does. Started by `forks.py`.
"""

import json
import os
import runpy
import signal
import socket
import sys
from importlib import import_module
from typing import Any, Final

LIBRARIES: Final = (
    *("aiohttp", "alembic.command", "pydantic_settings", "rich.progress", "rich.table", "solana.rpc.jsonrpc"),
    *("solders.litesvm", "sqlalchemy.dialects.postgresql", "sqlalchemy.dialects.sqlite", "sqlalchemy.ext.asyncio"),
    *("structlog", "temporalio.contrib.pydantic", "temporalio.worker", "typer"),
)
"""What our programs import, or most of it."""

MAX_REQUEST_BYTES: Final = 1 << 17
PASSED_FILES: Final = 3
"""Standard output, standard error, and where the process is told of."""


def main(requests: socket.socket) -> dict[str, Any]:
    """Returns in each process that is to become a program, with what is to run; ends when nobody can ask for one any more."""
    for library in LIBRARIES:
        import_module(library)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        request, files, *_ = socket.recv_fds(requests, MAX_REQUEST_BYTES, PASSED_FILES)
        if not request:
            sys.exit()
        if not os.fork():
            requests.close()
            return _watched(json.loads(request), *files)
        for file in files:
            os.close(file)


def _watched(program: dict[str, Any], out: int, err: int, told: int) -> dict[str, Any]:
    """Returns in the program's process; this one tells of that one's id and, at its end, of its status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if process_id := os.fork():
        with os.fdopen(told, "wb", buffering=0) as teller:
            teller.write(b"%d\n" % process_id)
            _, status = os.waitpid(process_id, 0)
            teller.write(b"%d\n" % os.waitstatus_to_exitcode(status))
        os._exit(0)
    os.close(told)
    for file, standard in ((os.open(os.devnull, os.O_RDONLY), 0), (out, 1), (err, 2)):
        os.dup2(file, standard)
        os.close(file)
    return program


if __name__ == "__main__":
    program = main(socket.socket(fileno=int(sys.argv[1])))
    os.environ.clear()
    os.environ.update(program["environment"])
    os.chdir(program["folder"])
    sys.argv, sys.path[0] = program["arguments"], program["folder"]
    runpy.run_path(sys.argv[0], run_name="__main__")
