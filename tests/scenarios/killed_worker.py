"""`python -m tests.scenarios.killed_worker QUEUES WHEN STEP`: Croupier's own worker, which kills itself with SIGKILL at that step."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import composition
from settings import Settings, load_settings
from tests.scenarios.mortal import Life, Script, When, mortal
from worker import Queues, run

PORTS: Final = {"journal": "open_journal", "ledger": "open_ledger", "prover": "open_prover"}


class Process(Life):
    """This process."""

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def _mortal(opened: Callable[[Settings], AbstractAsyncContextManager[Any]], name: str, script: Script) -> Any:
    @asynccontextmanager
    async def opening(settings: Settings) -> AsyncGenerator[Any]:
        async with opened(settings) as port:
            yield mortal(port, name, script, Process())

    return opening


def _main(queues: str, when: str, step: str) -> None:
    script = Script()
    script.kill(step, When(when))
    for name, opener in PORTS.items():
        setattr(composition, opener, _mortal(getattr(composition, opener), name, script))
    asyncio.run(run(load_settings(), Queues(queues)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
