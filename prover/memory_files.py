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
        descriptor = os.memfd_create("croupier")
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            yield f"/proc/self/fd/{descriptor}"
    else:
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            yield file.name
