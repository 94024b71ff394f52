"""Proving and verifying keys as files: `<shape>.<circuit hash>.pkey`, its `.vkey.json`, and a note that marks and seals both.

Keys made here come from a single-party set-up: whoever made them can forge proofs. They are for development and must never
guard funds; the note's name and text say so. A key is used only if its bytes are those that the note names.

Making a key anew gives another verifying key, even for the same circuit: the chain must then be told the new one.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Final

import groth16py
from pydantic import BaseModel, ConfigDict, ValidationError

from prover.circuit import circuit_hash, include_dirs, main_source
from settlement.errors import ProvingKeyMissing
from settlement.shapes import SHAPES, Shape

SETUP_TIMEOUT_SECONDS: Final = 600.0
"""Over ten times what the largest shape planned (256x32) takes on two busy cores."""
UNSAFE: Final = "development: unsafe for funds"
_DRAFTS_PREFIX: Final = ".making-"
_LOCK_NAME: Final = ".lock"


class KeyStage(StrEnum):
    """Where the making of a shape's keys stands."""

    PRESENT = "present"
    MAKING = "making"
    MADE = "made"


class KeyFiles(BaseModel):
    """The files of one shape's keys in one directory, whether or not they exist."""

    model_config = ConfigDict(frozen=True)

    proving_key: Path
    verifying_key: Path
    note: Path


class VerifyingKeyText(BaseModel):
    """A verifying key as snarkjs JSON. `sha256` (64 hex digits) is over exactly this text and names the key."""

    model_config = ConfigDict(frozen=True)

    shape: Shape
    text: str
    sha256: str


class _Note(BaseModel):
    """What lies beside a pair of keys: where they come from, and the digests that their bytes must have."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    origin: str
    shape: str
    groth16py: str
    proving_key_sha256: str
    verifying_key_sha256: str


def key_files(keys_dir: Path, shape: Shape) -> KeyFiles:
    """Where the keys of `shape` lie under `keys_dir`, for the circuit as it is now."""
    stem = f"{shape.name}.{circuit_hash(shape)}"
    return KeyFiles(
        proving_key=keys_dir / f"{stem}.pkey",
        verifying_key=keys_dir / f"{stem}.vkey.json",
        note=keys_dir / f"{stem}.development-unsafe-for-funds.json",
    )


def load_proving_key(keys_dir: Path, shape: Shape) -> groth16py.ProvingKey:
    """The proving key of `shape`; raises `ProvingKeyMissing`. Holds the interpreter's lock for about a second (64x16)."""
    files = key_files(keys_dir, shape)
    _check(files.proving_key, _read_note(files, keys_dir, shape).proving_key_sha256, keys_dir, shape)
    try:
        return groth16py.ProvingKey.load(str(files.proving_key))
    except groth16py.SetupError as error:
        raise _missing(files.proving_key, f"cannot be loaded ({error})", keys_dir, shape) from error


def load_verifying_key(keys_dir: Path, shape: Shape) -> VerifyingKeyText:
    """The verifying key of `shape`, as the chain must be told it; raises `ProvingKeyMissing`."""
    files = key_files(keys_dir, shape)
    sha256 = _read_note(files, keys_dir, shape).verifying_key_sha256
    text = _check(files.verifying_key, sha256, keys_dir, shape).decode()
    return VerifyingKeyText(shape=shape, text=text, sha256=sha256)


def make_development_keys(
    keys_dir: Path,
    shapes: Iterable[Shape] = SHAPES,
    progress: Callable[[Shape, KeyStage], None] = lambda _shape, _stage: None,
) -> None:
    """Makes the keys of `shapes` that are not there or not whole, leaving the others as they are; needs no network.

    Blocks for seconds a shape. `progress` is told `PRESENT`, or `MAKING` and then `MADE`, for each shape in turn. Processes that
    do this at once take turns. Raises `ProvingKeyMissing` if a key cannot be made.
    """
    try:
        with _turn(keys_dir):
            for shape in shapes:
                if _is_whole(keys_dir, shape):
                    progress(shape, KeyStage.PRESENT)
                    continue
                progress(shape, KeyStage.MAKING)
                _make(keys_dir, shape)
                progress(shape, KeyStage.MADE)
    except OSError as error:
        raise ProvingKeyMissing(
            f"no keys can be kept in {keys_dir}: {error}. Name a directory that can be written to"
        ) from error


@contextmanager
def _turn(keys_dir: Path) -> Generator[None]:
    keys_dir.mkdir(parents=True, exist_ok=True)
    with (keys_dir / _LOCK_NAME).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Whoever left drafts here was killed: nobody else can be making keys now.
        for abandoned in keys_dir.glob(f"{_DRAFTS_PREFIX}*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        yield


def _is_whole(keys_dir: Path, shape: Shape) -> bool:
    files = key_files(keys_dir, shape)
    try:
        note = _read_note(files, keys_dir, shape)
        _check(files.proving_key, note.proving_key_sha256, keys_dir, shape)
        _check(files.verifying_key, note.verifying_key_sha256, keys_dir, shape)
    except ProvingKeyMissing:
        return False
    return True


def _make(keys_dir: Path, shape: Shape) -> None:
    files = key_files(keys_dir, shape)
    with tempfile.TemporaryDirectory(dir=keys_dir, prefix=_DRAFTS_PREFIX) as drafts:
        source, proving_key, verifying_key, note = (
            Path(drafts) / name for name in ("main.circom", "proving_key", "verifying_key", "note")
        )
        source.write_text(main_source(shape))
        _set_up(source, proving_key, verifying_key, shape)
        note.write_text(
            _Note(
                origin=UNSAFE,
                shape=shape.name,
                groth16py=groth16py.__version__,
                proving_key_sha256=_sha256(proving_key.read_bytes()),
                verifying_key_sha256=_sha256(verifying_key.read_bytes()),
            ).model_dump_json(indent=2)
            + "\n"
        )
        # The note comes last: without it, or with an older one, the keys do not count.
        for draft, final in (
            (proving_key, files.proving_key),
            (verifying_key, files.verifying_key),
            (note, files.note),
        ):
            os.replace(draft, final)


def _set_up(source: Path, proving_key: Path, verifying_key: Path, shape: Shape) -> None:
    program = Path(__file__).with_name("setup_process.py")
    command = [sys.executable, program, source, proving_key, verifying_key, *include_dirs()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SETUP_TIMEOUT_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise ProvingKeyMissing(f"making the keys of {shape.name} took over {SETUP_TIMEOUT_SECONDS:.0f} s") from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise ProvingKeyMissing(f"the keys of {shape.name} could not be made: {said}")


def _read_note(files: KeyFiles, keys_dir: Path, shape: Shape) -> _Note:
    try:
        return _Note.model_validate_json(files.note.read_bytes())
    except OSError as error:
        raise _missing(files.note, f"cannot be read ({error.strerror})", keys_dir, shape) from error
    except ValidationError as error:
        raise _missing(files.note, "is damaged", keys_dir, shape) from error


def _check(path: Path, sha256: str, keys_dir: Path, shape: Shape) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _missing(path, f"cannot be read ({error.strerror})", keys_dir, shape) from error
    if _sha256(content) != sha256:
        raise _missing(path, "is damaged: its bytes are not those that were written", keys_dir, shape)
    return content


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _missing(path: Path, problem: str, keys_dir: Path, shape: Shape) -> ProvingKeyMissing:
    return ProvingKeyMissing(
        f"no usable key for shape {shape.name}: {path} {problem}. Make development keys with `python -m prover {keys_dir}`"
    )
