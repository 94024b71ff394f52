"""Writes a file that must outlive a power cut: whole or not at all, readable by its owner alone. Never replaces one."""

import errno
import os
import secrets
from pathlib import Path
from typing import Final

FILE_MODE: Final = 0o600


def publish(path: Path, content: bytes) -> None:
    """Returns once `content` is durable under that name. Its folder is made if need be.

    Raises `FileExistsError`, or another `OSError`; then nothing is there.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        # Not to be mistaken for the file itself being there.
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path.parent)) from None
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)  # unlike a rename, refuses to replace a file
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    except OSError:
        path.unlink()
        raise
    finally:
        os.close(folder)
