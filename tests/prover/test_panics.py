"""A Rust panic becomes an ordinary error, and nothing else does. A real one stands in tests/ceremony."""

import asyncio

import pytest

from prover.panics import Panicked, panics_as_errors


class PanicException(BaseException):
    """What PyO3 makes of a Rust panic: no `Exception`."""


def test_a_panic_becomes_an_error_with_its_words() -> None:
    with pytest.raises(Panicked, match="index out of bounds"), panics_as_errors():
        raise PanicException("index out of bounds")


@pytest.mark.parametrize("other", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, ValueError])
def test_what_is_no_panic_passes_as_it_is(other: type[BaseException]) -> None:
    with pytest.raises(other), panics_as_errors():
        raise other
