"""Rust panics of groth16py as ordinary errors: one is no `Exception`, and would end whatever thread or process it passes."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

_PANIC: Final = "PanicException"
"""PyO3 makes the class at run time (`pyo3_runtime.PanicException`); it cannot be imported."""


class Panicked(Exception):
    """groth16py has broken down over what it was given. The text is the panic's."""


@contextmanager
def panics_as_errors() -> Generator[None]:
    """Raises `Panicked` in place of a Rust panic; everything else passes."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != _PANIC:
            raise
        raise Panicked(str(error)) from None
