"""Groth16 proofs over BN254 with groth16py, behind `settlement.ports.Prover`. No proof leaves here that was not verified."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeAlias

import groth16py

from prover.inputs import check_statement, circuit_signals
from prover.keys import load_keys
from prover.panics import Panicked, panics_as_errors
from settlement.batches import Proof, Statement
from settlement.circuits import CircuitKey
from settlement.errors import ProofRejected, ProvingKeyMissing
from settlement.shapes import DEFAULT_SHAPES, Shape

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
        self.verifying_key, self.proving_key = load_keys(keys_dir, shape)
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

    Proofs run in threads of their own, where groth16py releases the interpreter's lock. Loading a key holds it for about a
    second (64x16), during which the event loop stands: call `load` before serving.
    """

    def __init__(
        self, keys_dir: Path, shapes: Sequence[Shape] = DEFAULT_SHAPES, threads: int = os.cpu_count() or 1
    ) -> None:
        self._keys_dir = keys_dir
        self._shapes = tuple(shapes)
        self._keys: dict[Shape, _Keys] = {}
        self._require: Requirement | None = None
        self._loading = asyncio.Lock()
        self._executor = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="groth16")

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
        return await asyncio.get_running_loop().run_in_executor(self._executor, _prove, keys, statement)

    def close(self) -> None:
        """Drops what waits and blocks until the proofs under way have ended (seconds at most)."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    async def _keys_of(self, shape: Shape) -> _Keys:
        if shape not in self._keys:
            async with self._loading:
                if shape not in self._keys:
                    loop = asyncio.get_running_loop()
                    keys = await loop.run_in_executor(self._executor, _Keys, self._keys_dir, shape)
                    if self._require is not None:
                        await self._require([keys.verifying_key])
                    self._keys[shape] = keys
        return self._keys[shape]


def _prove(keys: _Keys, statement: Statement) -> Proof:
    start = time.perf_counter()
    check_statement(statement)
    batch = f"batch {statement.number} of lane {statement.lane}"
    try:
        with panics_as_errors():
            proof = groth16py.prove(keys.proving_key, circuit_signals(statement))
            verified = keys.verifier.verify(proof, [statement.public_input])
    except _GROTH16_ERRORS as error:
        raise ProofRejected(f"the circuit refuses {batch}: {error}") from error
    except Panicked as panic:
        raise ProofRejected(f"the prover broke down over {batch}: {panic}") from None
    if not verified:
        raise ProofRejected(f"the proof of {batch} does not verify")
    return Proof(
        circuit_id=statement.shape.circuit_id,
        public_input=statement.public_input,
        proof=proof.hex(),
        milliseconds=round((time.perf_counter() - start) * 1000),
    )
