"""Writes a file that must outlive a power cut: whole or not at all, readable by its owner alone. Never replaces one."""

import errno
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

FILE_MODE: Final = 0o600


class PublishedInDoubt(OSError):
    """The file had its name, if for a moment: it was taken away again, but somebody may have read it."""


def publish(path: Path, content: bytes) -> None:
    """Returns once `content` is durable under that name. Its folder is made if need be.

    Raises `FileExistsError` or another `OSError`: then nothing was ever there. The exception is `PublishedInDoubt`.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        # Not to be mistaken for the file itself being there.
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path.parent)) from None
    # Before there is anything to publish, so that no more can go wrong afterwards than must.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        _write(draft, content)
        try:
            os.link(draft, path)  # unlike a rename, refuses to replace a file
        except OSError:
            with suppress(OSError):
                draft.unlink()
            raise
        try:
            draft.unlink()
            os.fsync(folder)
        except OSError as error:
            with suppress(OSError):
                path.unlink()
            raise PublishedInDoubt(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(folder)


def _write(draft: Path, content: bytes) -> None:
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        draft.unlink()
        raise
