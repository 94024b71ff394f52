"""Keys as files: `<shape>.<circuit hash>.zkey` proves, its `.vkey.json` verifies, its `.witness` is the program that makes the circuit's
witness, and a note tells whose they are.

A shape may have a development key, which comes from a single-party set-up (whoever made it can forge proofs, so it must never
guard funds: the note's name and text say so), or a ceremony's, or both: then the ceremony's alone is used. A key is used only if
its bytes are those that its note names, a proving key only with the verifying key that its proofs verify under, and a witness program
only if it was made from the circuit that the note names. A ceremony's proving key is its `.zkey`, byte for byte.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import groth16py
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prover.circuit import circuit_hash
from prover.contributions import UnfitFile
from prover.memory_files import file_of
from prover.panics import Panicked, panics_as_errors
from prover.witness import WitnessProgram
from prover.zkey import Zkey, read_zkey
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
    witness_program: Path
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

    `verifying_key_sha256`: of the key as it stands on chain. `r1cs_sha256`: of the constraints as the compiler wrote them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    origin: str
    shape: str
    groth16py: str
    proving_key_sha256: str
    verifying_key_sha256: str
    witness_program_sha256: str
    r1cs_sha256: str


class LoadedKeys(NamedTuple):
    """What it takes to prove and to verify, all of one key."""

    verifying_key: VerifyingKey
    proving_key: groth16py.ProvingKey
    witness_program: WitnessProgram


def key_files(keys_dir: Path, shape: Shape, origin: KeyOrigin = KeyOrigin.DEVELOPMENT) -> KeyFiles:
    """Where the keys of `shape` lie under `keys_dir`, for the circuit as it is now."""
    stem = f"{shape.name}.{circuit_hash(shape)}"
    return KeyFiles(
        proving_key=keys_dir / f"{stem}{_INFIX[origin]}.zkey",
        verifying_key=keys_dir / f"{stem}{_INFIX[origin]}.vkey.json",
        witness_program=keys_dir / f"{stem}{_INFIX[origin]}.witness",
        note=keys_dir / f"{stem}{_NOTE_SUFFIX[origin]}",
    )


def origin_in(keys_dir: Path, shape: Shape) -> KeyOrigin | None:
    """Whose key of `shape` counts: a ceremony's if there is a note of one, whole or not, then a rehearsal's; None if there is none.

    Raises `ProvingKeyMissing` if that cannot be found out.
    """
    return next((origin for origin in reversed(KeyOrigin) if _exists(key_files(keys_dir, shape, origin).note)), None)


def load_keys(keys_dir: Path, shape: Shape) -> LoadedKeys:
    """The keys of `shape`, which belong together; raises `ProvingKeyMissing`.

    Blocks for up to 0.2 s (280x56), of which it holds the interpreter's lock for little on end (docs/performance.md).
    """
    kept = _Kept(keys_dir, shape)
    verifying_key = kept.verifying_key()
    content = kept.zkey_content()
    zkey = kept.zkey(content, verifying_key)
    return LoadedKeys(verifying_key, kept.proving_key(content), kept.witness_program(zkey))


def load_verifying_key(keys_dir: Path, shape: Shape) -> VerifyingKey:
    """The verifying key of `shape`, as the chain must be told it; raises `ProvingKeyMissing`."""
    return _Kept(keys_dir, shape).verifying_key()


def check_keys(keys_dir: Path, shape: Shape) -> VerifyingKey:
    """The verifying key of `shape`, if all that belongs to it is there and whole; raises `ProvingKeyMissing`. Reads all of it."""
    kept = _Kept(keys_dir, shape)
    verifying_key = kept.verifying_key()
    kept.witness_program(kept.zkey(kept.zkey_content(), verifying_key))
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

    def zkey_content(self) -> bytes:
        """The proving key's file, if it is the one that was written."""
        return self._content(self._files.proving_key, self._note.proving_key_sha256)

    def zkey(self, content: bytes, verifying_key: VerifyingKey) -> Zkey:
        """That file as it is laid out, if it belongs to `verifying_key`."""
        path = self._files.proving_key
        try:
            zkey = read_zkey(content)
        except UnfitFile as unfit:
            raise self._missing(path, str(unfit)) from unfit
        belongs_to = verifying_key_digest(zkey.verifying_key)
        if belongs_to != verifying_key.sha256:
            raise self._missing(
                path,
                f"belongs to verifying key {belongs_to}, but {self._files.verifying_key.name} is {verifying_key.sha256}",
            )
        return zkey

    def proving_key(self, content: bytes) -> groth16py.ProvingKey:
        """Of the very bytes that were looked at (`zkey`), whatever has become of the file."""
        try:
            with file_of(content) as path, panics_as_errors():
                return groth16py.import_zkey(path)[0]
        except (groth16py.SetupError, Panicked, OSError) as error:
            raise self._missing(self._files.proving_key, f"cannot be loaded ({error})") from error

    def witness_program(self, zkey: Zkey) -> WitnessProgram:
        """The program that makes witnesses for `zkey`."""
        path = self._files.witness_program
        try:
            program = WitnessProgram(self._content(path, self._note.witness_program_sha256))
        except ValueError as error:
            raise self._missing(path, f"is damaged: {error}") from error
        if (program.r1cs_sha256, program.wires) != (self._note.r1cs_sha256, zkey.wires):
            raise self._missing(path, "is for another circuit")
        return program

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
        of_ceremony = self._origin is not KeyOrigin.DEVELOPMENT
        return VerifyingKey(
            shape=self._shape,
            origin=self._origin,
            sha256=digest,
            zkey_sha256=self._note.proving_key_sha256 if of_ceremony else None,
            text=text,
        )

    def _content(self, path: Path, sha256: str) -> bytes:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise self._missing(path, f"cannot be read ({error.strerror})") from error
        if hashlib.sha256(content).hexdigest() != sha256:
            raise self._missing(path, "is damaged: its bytes are not those that were written")
        return content

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
