"""Groth16 proofs over BN254 with groth16py, behind `settlement.ports.Prover`. No proof leaves here that was not verified."""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeAlias

import groth16py

from prover.inputs import check_statement, circuit_signals, values_of
from prover.keys import load_keys
from prover.memory_files import file_of
from prover.panics import Panicked, panics_as_errors
from prover.witness import as_wtns
from settlement.batches import Proof, Statement
from settlement.circuits import CircuitKey
from settlement.errors import ProofRejected, ProvingKeyMissing
from settlement.shapes import DEFAULT_SHAPES, Shape

PROVING_NICENESS: Final = 10
"""How far proving threads stand back, on Linux. On a saturated machine lanes, ledger and Temporal answer first, for all waits for
them; proofs take the time that is left, which is nearly all of it."""

_GROTH16_ERRORS: Final = (
    groth16py.EncodingError,
    groth16py.SetupError,
    groth16py.VerificationError,
    groth16py.WitnessError,
)

Requirement: TypeAlias = Callable[[Sequence[CircuitKey]], Awaitable[None]]
"""Raises what keeps keys from being used."""


class _Keys:
    """One shape's keys, ready to use."""

    def __init__(self, keys_dir: Path, shape: Shape) -> None:
        """Raises `ProvingKeyMissing`."""
        self.verifying_key, self.proving_key, self.witness_program = load_keys(keys_dir, shape)
        try:
            with panics_as_errors():
                self.verifier = groth16py.Verifier(groth16py.VerifyingKey.from_snarkjs(self.verifying_key.text))
        except (*_GROTH16_ERRORS, Panicked) as error:
            raise ProvingKeyMissing(
                f"the verifying key of shape {shape.name} in {keys_dir} cannot be used: {error}"
            ) from error


class Groth16Prover:
    """Proves statements with the keys in `keys_dir`, at most `threads` at once; more wait their turn.

    `shapes`: those in use, whose keys `load` takes into memory. Another shape's are looked for when it is asked for: a batch
    may have been cut under earlier settings.

    Nothing of it runs in the event loop's thread. What needs the interpreter's lock (loading keys, making witnesses) runs in a thread
    of normal priority: one that stood back while it held the lock would hold up everything else. Proofs, for which groth16py releases
    it, run in threads that stand back.
    """

    def __init__(
        self, keys_dir: Path, shapes: Sequence[Shape] = DEFAULT_SHAPES, threads: int = os.cpu_count() or 1
    ) -> None:
        self._keys_dir = keys_dir
        self._shapes = tuple(shapes)
        self._keys: dict[Shape, _Keys] = {}
        self._require: Requirement | None = None
        self._loading = asyncio.Lock()
        self._preparing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="witness")
        self._proving = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="groth16", initializer=_stand_back)

    async def load(self) -> None:
        """Loads the keys of every shape. Raises `ProvingKeyMissing` for the first that is not there or damaged."""
        for shape in self._shapes:
            await self._keys_of(shape)

    async def require(self, require: Requirement) -> None:
        """Lets `require` look at the keys that are loaded, and from now on at each before its first use; what it raises, passes."""
        self._require = require
        await require(self.keys)

    @property
    def keys(self) -> list[CircuitKey]:
        """Those that are loaded."""
        return [keys.verifying_key for keys in self._keys.values()]

    async def prove(self, statement: Statement) -> Proof:
        """A verified proof of `statement`. Raises `ProofRejected` if it is false, `ProvingKeyMissing` without keys for its shape.

        Cancelling takes back a proof that still waits its turn; one under way runs to its end, and its result is dropped.
        """
        keys = await self._keys_of(statement.shape)
        loop = asyncio.get_running_loop()
        witness = await loop.run_in_executor(self._preparing, _witness, keys, statement)
        proof, seconds = await loop.run_in_executor(self._proving, _prove, keys, statement, witness)
        await loop.run_in_executor(self._preparing, _verify, keys, statement, proof)
        return Proof(
            circuit_id=statement.shape.circuit_id,
            public_input=statement.public_input,
            proof=proof.hex(),
            milliseconds=round(seconds * 1000),
        )

    def close(self) -> None:
        """Drops what waits and blocks until the proofs under way have ended (seconds at most)."""
        for executor in (self._preparing, self._proving):
            executor.shutdown(wait=True, cancel_futures=True)

    async def _keys_of(self, shape: Shape) -> _Keys:
        if shape not in self._keys:
            async with self._loading:
                if shape not in self._keys:
                    loop = asyncio.get_running_loop()
                    keys = await loop.run_in_executor(self._preparing, _Keys, self._keys_dir, shape)
                    if self._require is not None:
                        await self._require([keys.verifying_key])
                    self._keys[shape] = keys
        return self._keys[shape]


def _stand_back() -> None:
    if sys.platform == "linux":
        own = os.getpriority(os.PRIO_PROCESS, 0)
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), max(own, PROVING_NICENESS))


def _witness(keys: _Keys, statement: Statement) -> bytes:
    """As a `.wtns`. Raises `ProofRejected` for a statement that is false or does not fit."""
    check_statement(statement)
    try:
        return as_wtns(keys.witness_program.witness(values_of(circuit_signals(statement))))
    except ValueError as error:
        raise ProofRejected(f"the circuit refuses {_named(statement)}: {error}") from error


def _prove(keys: _Keys, statement: Statement, witness: bytes) -> tuple[bytes, float]:
    """A proof, whether or not it verifies, and how many seconds it took."""
    start = time.perf_counter()
    try:
        with file_of(witness) as path, panics_as_errors():
            proof = groth16py.prove_wtns(keys.proving_key, path)
    except _GROTH16_ERRORS as error:
        raise ProofRejected(f"the circuit refuses {_named(statement)}: {error}") from error
    except Panicked as panic:
        raise ProofRejected(f"the prover broke down over {_named(statement)}: {panic}") from None
    return proof, time.perf_counter() - start


def _verify(keys: _Keys, statement: Statement, proof: bytes) -> None:
    try:
        with panics_as_errors():
            verified = keys.verifier.verify(proof, [statement.public_input])
    except (*_GROTH16_ERRORS, Panicked) as error:
        raise ProofRejected(f"the proof of {_named(statement)} cannot be verified: {error}") from error
    if not verified:
        raise ProofRejected(f"the proof of {_named(statement)} does not verify")


def _named(statement: Statement) -> str:
    return f"batch {statement.number} of lane {statement.lane}"
