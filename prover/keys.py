"""Proving and verifying keys as files: `<shape>.<circuit hash>.pkey`, its `.vkey.json`, and a note that tells whose they are.

A shape may have a development key, which comes from a single-party set-up (whoever made it can forge proofs, so it must never
guard funds: the note's name and text say so), or a ceremony's, or both: then the ceremony's alone is used. A key is used only if
its bytes are those that its note names, and a proving key only with the verifying key that its proofs verify under.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Final

import groth16py
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prover.circuit import circuit_hash
from prover.panics import Panicked, panics_as_errors
from prover.pkey import embedded_verifying_key
from settlement.circuits import CircuitKey, KeyOrigin
from settlement.errors import ProvingKeyMissing
from settlement.shapes import Shape
from settlement.verifying_keys import encode_verifying_key, verifying_key_digest

UNSAFE: Final = KeyOrigin.DEVELOPMENT.remark
_INFIX: Final = {KeyOrigin.DEVELOPMENT: "", KeyOrigin.REHEARSAL: ".rehearsal", KeyOrigin.CEREMONY: ".ceremony"}
_NOTE_SUFFIX: Final = {
    KeyOrigin.DEVELOPMENT: ".development-unsafe-for-funds.json",
    KeyOrigin.REHEARSAL: ".rehearsal-unsafe-for-funds.json",
    KeyOrigin.CEREMONY: ".ceremony.json",
}


class KeyFiles(BaseModel):
    """The files of one shape's keys of one origin in one directory, whether or not they exist."""

    model_config = ConfigDict(frozen=True)

    proving_key: Path
    verifying_key: Path
    note: Path


class VerifyingKey(CircuitKey):
    """A verifying key as snarkjs JSON."""

    text: Annotated[str, Field(repr=False)]

    @property
    def encoded(self) -> bytes:
        """As it stands on chain."""
        return encode_verifying_key(self.text)


class Note(BaseModel):
    """What lies beside a pair of keys: where they come from, and the digests that their bytes must have.

    `verifying_key_sha256`: of the key as it stands on chain. `zkey_sha256`: of the ceremony's file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    origin: str
    shape: str
    groth16py: str
    proving_key_sha256: str
    verifying_key_sha256: str
    zkey_sha256: str | None = None


def key_files(keys_dir: Path, shape: Shape, origin: KeyOrigin = KeyOrigin.DEVELOPMENT) -> KeyFiles:
    """Where the keys of `shape` lie under `keys_dir`, for the circuit as it is now."""
    stem = f"{shape.name}.{circuit_hash(shape)}"
    return KeyFiles(
        proving_key=keys_dir / f"{stem}{_INFIX[origin]}.pkey",
        verifying_key=keys_dir / f"{stem}{_INFIX[origin]}.vkey.json",
        note=keys_dir / f"{stem}{_NOTE_SUFFIX[origin]}",
    )


def origin_in(keys_dir: Path, shape: Shape) -> KeyOrigin | None:
    """Whose key of `shape` counts: a ceremony's if there is a note of one, whole or not, then a rehearsal's; None if there is none.

    Raises `ProvingKeyMissing` if that cannot be found out.
    """
    return next((origin for origin in reversed(KeyOrigin) if _exists(key_files(keys_dir, shape, origin).note)), None)


def load_keys(keys_dir: Path, shape: Shape) -> tuple[VerifyingKey, groth16py.ProvingKey]:
    """Both keys of `shape`, which belong together; raises `ProvingKeyMissing`.

    Holds the interpreter's lock for about a second (64x16).
    """
    kept = _Kept(keys_dir, shape)
    verifying_key = kept.verifying_key()
    return verifying_key, kept.proving_key(verifying_key)


def load_verifying_key(keys_dir: Path, shape: Shape) -> VerifyingKey:
    """The verifying key of `shape`, as the chain must be told it; raises `ProvingKeyMissing`."""
    return _Kept(keys_dir, shape).verifying_key()


def check_keys(keys_dir: Path, shape: Shape) -> VerifyingKey:
    """The verifying key of `shape`, if the proving key is whole and belongs to it; raises `ProvingKeyMissing`. Reads all of both."""
    kept = _Kept(keys_dir, shape)
    verifying_key = kept.verifying_key()
    kept.check_proving_key(verifying_key)
    return verifying_key


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Kept:
    """The keys of one shape as they are kept. Every method raises `ProvingKeyMissing` with the file and the remedy."""

    def __init__(self, keys_dir: Path, shape: Shape) -> None:
        self._shape = shape
        self._origin = origin_in(keys_dir, shape) or KeyOrigin.DEVELOPMENT
        self._files = key_files(keys_dir, shape, self._origin)
        try:
            self._note = Note.model_validate_json(self._files.note.read_bytes())
        except OSError as error:
            raise self._missing(self._files.note, f"cannot be read ({error.strerror})") from error
        except ValidationError as error:
            raise self._missing(self._files.note, "is damaged") from error
        if (self._note.origin, self._note.shape) != (self._origin.remark, shape.name):
            raise self._missing(self._files.note, "is damaged: it is for another key")

    def check_proving_key(self, verifying_key: VerifyingKey) -> None:
        path = self._files.proving_key
        try:
            digest = file_digest(path)
        except OSError as error:
            raise self._missing(path, f"cannot be read ({error.strerror})") from error
        if digest != self._note.proving_key_sha256:
            raise self._missing(path, "is damaged: its bytes are not those that were written")
        try:
            belongs_to = verifying_key_digest(embedded_verifying_key(path))
        except (OSError, ValueError) as error:
            raise self._missing(path, f"is damaged ({error})") from error
        if belongs_to != verifying_key.sha256:
            raise self._missing(
                path,
                f"belongs to verifying key {belongs_to}, but {self._files.verifying_key.name} is {verifying_key.sha256}",
            )

    def proving_key(self, verifying_key: VerifyingKey) -> groth16py.ProvingKey:
        self.check_proving_key(verifying_key)
        path = self._files.proving_key
        try:
            with panics_as_errors():
                loaded = groth16py.ProvingKey.load(str(path))
            # groth16py opens the file itself: what was checked before may not be what it has read.
            digest = file_digest(path)
        except (groth16py.SetupError, Panicked, OSError) as error:
            raise self._missing(path, f"cannot be loaded ({error})") from error
        if digest != self._note.proving_key_sha256:
            raise ProvingKeyMissing(f"{path} was replaced while it was being loaded: start again")
        return loaded

    def verifying_key(self) -> VerifyingKey:
        path = self._files.verifying_key
        try:
            text = path.read_text()
            digest = verifying_key_digest(encode_verifying_key(text))
        except OSError as error:
            raise self._missing(path, f"cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise self._missing(path, "is damaged: it holds no verifying key") from error
        if digest != self._note.verifying_key_sha256:
            raise self._missing(path, "is damaged: it holds another verifying key than was written")
        return VerifyingKey(
            shape=self._shape, origin=self._origin, sha256=digest, zkey_sha256=self._note.zkey_sha256, text=text
        )

    def _missing(self, path: Path, problem: str) -> ProvingKeyMissing:
        name = self._shape.name
        remedy = f"Import a ceremony's with `python starter.py circuit import {name} FILE --sha256 HEX`"
        if self._origin is KeyOrigin.DEVELOPMENT:
            remedy += f", or make one for development with `python starter.py circuit make {name}`"
        else:
            remedy += " (the file that it was imported from; any other takes --replace as well)"
        return ProvingKeyMissing(f"no usable key for shape {name}: {path} {problem}. {remedy}")


def _exists(file: Path) -> bool:
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise ProvingKeyMissing(
            f"{file} cannot be looked for ({error.strerror}). Name a directory that can be read (CROUPIER_CIRCUIT_KEYS)"
        ) from error
    return True
