"""Signing keys in files, as `solana-keygen` writes them: a JSON array of 64 bytes, secret before public.

It must never print a secret, read a key that others on the machine can read too, or overwrite one.
"""

import json
import os
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError
from solders.keypair import Keypair

from ledger.files import publish
from settlement.errors import CroupierError

_OTHERS: Final = 0o077
_MAX_FILE_BYTES: Final = 4_096
"""A key file has about 230; a larger file is not one."""

_KEY_BYTES: Final = TypeAdapter(list[int])


class KeyFileError(CroupierError):
    """A key file that is missing, unreadable, malformed or open to others. The text names it and the remedy."""


def load_keypair(path: Path) -> Keypair:
    """The key in a file. Raises `KeyFileError`."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise KeyFileError(
            f"key file {path} does not exist: put the key there, or make one with solana-keygen"
        ) from None
    except OSError as error:
        raise KeyFileError(f"key file {path} cannot be read: {error.strerror}") from None
    if mode & _OTHERS:
        raise KeyFileError(f"key file {path} is open to other users of this machine: run `chmod 600 {path}`")
    try:
        return Keypair.from_bytes(bytes(_KEY_BYTES.validate_json(content, strict=True)))
    except (ValidationError, ValueError):
        # Not chained: what these say may quote the secret.
        raise KeyFileError(
            f"key file {path} does not hold a key: it must be the JSON array of 64 numbers that solana-keygen writes"
        ) from None


def create_keypair(path: Path) -> Keypair:
    """Makes a key and the file that holds it, readable by its owner alone: whole, or not at all.

    Its folder is made if need be. Raises `KeyFileError` if the file exists already or cannot be written.
    """
    keypair = Keypair()
    try:
        publish(path, json.dumps(list(bytes(keypair))).encode())
    except FileExistsError:
        raise KeyFileError(f"key file {path} exists already and is left as it is") from None
    except OSError as error:
        raise KeyFileError(f"key file {path} cannot be written: {error.strerror}") from None
    return keypair


def load_or_create_keypair(path: Path) -> Keypair:
    """The key in a file, which is made if there is none. Raises `KeyFileError`."""
    return load_keypair(path) if path.exists() else create_keypair(path)
