"""snarkjs beside our prover: the same circuit, the same key, and a witness of the same batch. A baseline that anybody can repeat.

snarkjs comes from npm as ceremony/ pins it, and runs under the node of a wheel. Each call is a process of its own, whose first proof,
while it warms up, is not counted.
"""

import asyncio
import json
from enum import StrEnum
from pathlib import Path
from statistics import median
from typing import Final

from ceremony import snarkjs
from ceremony.snarkjs import StepFailed

PROGRAM: Final = Path(__file__).parent / "prove.cjs"
PROOFS: Final = 2
"""In each round."""

TIMEOUT_SECONDS: Final = 300.0


class Mode(StrEnum):
    """How snarkjs proves: in one thread, or with a worker for each core."""

    SINGLE = "single"
    WORKERS = "workers"


def ensure_installed() -> None:
    """Installs snarkjs if it is not there. Raises `StepFailed` with the remedy."""
    if not snarkjs.SNARKJS.exists():
        snarkjs.install()


async def seconds_per_proof(zkey: Path, witness: Path, mode: Mode) -> float:
    """The median. Raises `StepFailed`."""
    library = snarkjs.SNARKJS.with_name("main.cjs")
    process = await asyncio.create_subprocess_exec(
        *(snarkjs.node(), PROGRAM, library, zkey, witness, mode.value, str(PROOFS)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, said = await asyncio.wait_for(process.communicate(), TIMEOUT_SECONDS)
    except TimeoutError:
        raise StepFailed(f"snarkjs took over {TIMEOUT_SECONDS:.0f} s for {PROOFS + 1} proofs") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise StepFailed(f"snarkjs has failed: {said.decode(errors='replace').strip()}")
    return median(json.loads(output)) / 1000
