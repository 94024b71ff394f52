"""What the prover does leaves the event loop free: it never holds it up for 50 ms on end, whatever it is doing.

Wall-clock time tells little where other processes want the processors too. So it is counted what this process does itself: CPU time
of the loop's own thread between two of its turns, and CPU time of each single call into compiled code in the prover's threads, for
nothing else can hold the interpreter's lock longer than the interpreter's switch interval. Of the calls that are to release the lock,
it is counted that the loop gets its turns meanwhile.
"""

import asyncio
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

import groth16py
import pytest

from prover.groth16 import PROVING_NICENESS, Groth16Prover
from prover.making import make_development_keys
from settlement.batches import Statement
from settlement.shapes import DEFAULT_SHAPES, SHAPES, Shape
from tests.prover.conftest import StatementOf

LONGEST_BLOCK_SECONDS: Final = 0.05
RELEASING: Final = frozenset({"prove_wtns", "openssl_sha256", "update", "read", "readinto"})
"""Calls that release the lock as long as they compute or wait."""
TURNS: Final = 3
"""Of the loop, at least, while one proof is made: were the lock held, there would be none. The smallest takes 0.1 s of CPU time."""
PAUSE_SECONDS: Final = 0.001


@contextmanager
def compiled_calls() -> Generator[dict[str, float]]:
    """The CPU time of the longest call, by name, of those that threads make which are started meanwhile."""
    longest: dict[str, float] = defaultdict(float)
    own = threading.local()

    def observe(_frame: FrameType, event: str, argument: Any) -> None:
        if event == "c_call":
            own.start = time.thread_time()
        elif event in ("c_return", "c_exception") and hasattr(own, "start"):
            name = argument.__name__
            longest[name] = max(longest[name], time.thread_time() - own.start)

    threading.setprofile(observe)
    try:
        yield longest
    finally:
        threading.setprofile(None)


class Turns:
    """Of the event loop: how many there were, and the most CPU time that its thread took from one to the next."""

    def __init__(self) -> None:
        self.count = 0
        self.longest_seconds = 0.0


@asynccontextmanager
async def counted_turns() -> AsyncGenerator[Turns]:
    turns = Turns()

    async def turn() -> None:
        while True:
            start = time.thread_time()
            await asyncio.sleep(PAUSE_SECONDS)
            turns.count += 1
            turns.longest_seconds = max(turns.longest_seconds, time.thread_time() - start)

    turning = asyncio.create_task(turn())
    try:
        yield turns
    finally:
        turning.cancel()


@pytest.mark.parametrize(
    "shape",
    [pytest.param(shape, marks=() if shape in DEFAULT_SHAPES else pytest.mark.slow) for shape in SHAPES],
    ids=lambda shape: shape.name,
)
async def test_neither_proofs_nor_the_loading_of_keys_hold_up_the_event_loop(
    keys_dir: Path, statement_of: StatementOf, shape: Shape, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_development_keys(keys_dir, [shape])
    statement: Statement = statement_of(shape.bets, shape.players)
    meanwhile: list[int] = []
    prove = groth16py.prove_wtns

    async with counted_turns() as turns:

        def counted(key: groth16py.ProvingKey, witness: str) -> bytes:
            before = turns.count
            proof = prove(key, witness)
            meanwhile.append(turns.count - before)
            return proof

        monkeypatch.setattr(groth16py, "prove_wtns", counted)
        with compiled_calls() as calls:
            prover = Groth16Prover(keys_dir, [], threads=2)
            try:
                await asyncio.gather(*(prover.prove(statement) for _ in range(2)))
            finally:
                prover.close()
    assert {"prove_wtns", "import_zkey", "verify"} <= calls.keys(), "what is measured"
    held = {name: seconds for name, seconds in calls.items() if name not in RELEASING}
    assert max(held.values()) < LONGEST_BLOCK_SECONDS, held
    assert turns.longest_seconds < LONGEST_BLOCK_SECONDS
    assert min(meanwhile) >= TURNS


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
async def test_threads_that_prove_stand_back_and_those_that_hold_the_interpreters_lock_do_not(
    keys_dir: Path, statement_of: StatementOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    niceness: dict[str, int] = {}

    def observed(name: str) -> None:
        real = getattr(groth16py, name)

        def call(*arguments: object) -> object:
            niceness[name] = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
            return real(*arguments)

        monkeypatch.setattr(groth16py, name, call)

    observed("import_zkey")
    observed("prove_wtns")
    prover = Groth16Prover(keys_dir, [], threads=1)
    try:
        await prover.prove(statement_of(2, 2))
    finally:
        prover.close()
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    assert niceness == {"import_zkey": usual, "prove_wtns": max(usual, PROVING_NICENESS)}
