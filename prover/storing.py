"""How keys come into a directory: one process at a time, durably, and the note last, without which they do not count."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import groth16py

from prover.keys import Note, file_digest, key_files
from settlement.circuits import KeyOrigin
from settlement.errors import ProvingKeyMissing
from settlement.shapes import Shape
from settlement.verifying_keys import encode_verifying_key, verifying_key_digest

_DRAFTS_PREFIX: Final = ".making-"
_LOCK_NAME: Final = ".lock"


@contextmanager
def turn(keys_dir: Path) -> Generator[None]:
    """Makes the directory if need be, and keeps other processes from putting keys into it meanwhile.

    Raises `ProvingKeyMissing` if keys cannot be kept there.
    """
    try:
        keys_dir.mkdir(parents=True, exist_ok=True)
        with (keys_dir / _LOCK_NAME).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Whoever left drafts here was killed: nobody else can be making keys now.
            for abandoned in keys_dir.glob(f"{_DRAFTS_PREFIX}*"):
                shutil.rmtree(abandoned, ignore_errors=True)
            yield
    except OSError as error:
        raise ProvingKeyMissing(
            f"no keys can be kept in {keys_dir}: {error}. Name a directory that can be written to"
        ) from error


@contextmanager
def drafts_in(keys_dir: Path) -> Generator[Path]:
    """A folder for what is not finished, on the same file system; gone afterwards."""
    with tempfile.TemporaryDirectory(dir=keys_dir, prefix=_DRAFTS_PREFIX) as folder:
        yield Path(folder)


def put(
    keys_dir: Path,
    shape: Shape,
    origin: KeyOrigin,
    *,
    proving_key: Path,
    verifying_key: Path,
    witness_program: Path,
    r1cs_sha256: str,
) -> None:
    """Moves finished drafts into place. Interrupted at any instant, it leaves either the old keys, the new ones or none that count."""
    files = key_files(keys_dir, shape, origin)
    note = proving_key.with_name("note")
    note.write_text(
        Note(
            origin=origin.remark,
            shape=shape.name,
            groth16py=groth16py.__version__,
            proving_key_sha256=file_digest(proving_key),
            verifying_key_sha256=verifying_key_digest(encode_verifying_key(verifying_key.read_text())),
            witness_program_sha256=file_digest(witness_program),
            r1cs_sha256=r1cs_sha256,
        ).model_dump_json(indent=2)
        + "\n"
    )
    for draft in (proving_key, verifying_key, witness_program, note):
        _flush(draft)
    os.replace(proving_key, files.proving_key)
    os.replace(verifying_key, files.verifying_key)
    os.replace(witness_program, files.witness_program)
    # With an older note, or none, they do not count: it must not be there before they are.
    _flush(keys_dir)
    os.replace(note, files.note)
    _flush(keys_dir)


def remove(keys_dir: Path, shape: Shape, origin: KeyOrigin) -> None:
    """Takes keys away, the note first."""
    files = key_files(keys_dir, shape, origin)
    for file in (files.note, files.proving_key, files.verifying_key, files.witness_program):
        file.unlink(missing_ok=True)
    _flush(keys_dir)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
