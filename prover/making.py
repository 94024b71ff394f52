"""Makes development keys: one party, who could forge proofs, so they must never guard funds.

Making a key anew gives another verifying key, even for the same circuit: the chain must then be told the new one. A shape with a
ceremony's key gets none, and one whose ceremony's key is damaged or belongs to an older circuit gets none either: a person must
look.
"""

import hashlib
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path

import groth16py

from prover.compiling import compile_r1cs
from prover.keys import check_keys, origin_in
from prover.panics import Panicked, panics_as_errors
from prover.programs import witness_program
from prover.r1cs import read_constraints
from prover.storing import drafts_in, put, turn
from prover.trusted_setup import development_key
from settlement.circuits import KeyOrigin
from settlement.errors import ProvingKeyMissing
from settlement.shapes import DEFAULT_SHAPES, Shape


class KeyStage(StrEnum):
    """Where the making of a shape's keys stands. `CEREMONY`: it has a ceremony's, so none are made."""

    CEREMONY = "ceremony"
    PRESENT = "present"
    MAKING = "making"
    MADE = "made"


def make_development_keys(
    keys_dir: Path,
    shapes: Iterable[Shape] = DEFAULT_SHAPES,
    progress: Callable[[Shape, KeyStage], None] = lambda _shape, _stage: None,
) -> None:
    """Makes the keys of `shapes` that are not there or not whole, leaving the others as they are; needs no network.

    Blocks for seconds a shape. `progress` is told `CEREMONY`, `PRESENT`, or `MAKING` and then `MADE`, for each shape in turn.
    Processes that do this at once take turns. Raises `ProvingKeyMissing` if a key cannot be made.
    """
    with turn(keys_dir):
        for shape in shapes:
            _refuse_beside_older_ceremony(keys_dir, shape)
            present = origin_in(keys_dir, shape)
            if present not in (None, KeyOrigin.DEVELOPMENT):
                check_keys(keys_dir, shape)
                progress(shape, KeyStage.CEREMONY if present is KeyOrigin.CEREMONY else KeyStage.PRESENT)
            elif _is_whole(keys_dir, shape):
                progress(shape, KeyStage.PRESENT)
            else:
                progress(shape, KeyStage.MAKING)
                _make(keys_dir, shape)
                progress(shape, KeyStage.MADE)


def _refuse_beside_older_ceremony(keys_dir: Path, shape: Shape) -> None:
    """A ceremony's key says that this directory guards funds, even when the circuit has changed since."""
    found = sorted(keys_dir.glob(f"{shape.name}.*.ceremony.json"))
    if found and origin_in(keys_dir, shape) is not KeyOrigin.CEREMONY:
        raise ProvingKeyMissing(
            f"the ceremony's key of shape {shape.name} ({found[-1]}) is for another circuit or another groth16py than this"
            f" release's. Import one for this release (`python starter.py circuit import {shape.name} FILE --sha256 HEX`), or"
            " move that file away"
        )


def _is_whole(keys_dir: Path, shape: Shape) -> bool:
    try:
        check_keys(keys_dir, shape)
    except ProvingKeyMissing:
        return False
    return True


def _make(keys_dir: Path, shape: Shape) -> None:
    with drafts_in(keys_dir) as drafts:
        names = ("circuit.r1cs", "proving_key", "verifying_key", "witness_program")
        r1cs, proving_key, verifying_key, program = (drafts / name for name in names)
        compile_r1cs(shape, r1cs)
        content = r1cs.read_bytes()
        try:
            program.write_bytes(witness_program(content))
            proving_key.write_bytes(development_key(read_constraints(content)))
            with panics_as_errors():
                _, imported = groth16py.import_zkey(str(proving_key))
        except (ValueError, groth16py.SetupError, Panicked) as error:
            raise ProvingKeyMissing(f"the keys of {shape.name} could not be made: {error}") from error
        verifying_key.write_text(imported.to_json())
        put(
            keys_dir,
            shape,
            KeyOrigin.DEVELOPMENT,
            proving_key=proving_key,
            verifying_key=verifying_key,
            witness_program=program,
            r1cs_sha256=hashlib.sha256(content).hexdigest(),
        )
