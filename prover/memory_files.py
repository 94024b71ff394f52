"""Hands bytes to a library that only reads files."""

import os
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def file_of(content: bytes) -> Generator[str]:
    """A path under which this process can read `content` meanwhile. Linux keeps it in memory, elsewhere it is a temporary file."""
    if sys.platform == "linux":
        with descriptor_of(content) as descriptor:
            yield path_of(descriptor)
    else:
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            yield file.name


@contextmanager
def descriptor_of(content: bytes) -> Generator[int]:
    """A descriptor of `content`, which a child may be given. No name leads to it, and it is gone with the processes that have it.

    Linux keeps it in memory, elsewhere it is a temporary file without a name.
    """
    with open(os.memfd_create("croupier"), "wb") if sys.platform == "linux" else tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        file.seek(0)
        yield file.fileno()


def path_of(descriptor: int) -> str:
    """Under which a process that has the descriptor can read what it is of."""
    return f"/proc/self/fd/{descriptor}" if sys.platform == "linux" else f"/dev/fd/{descriptor}"
