"""How the domain's errors become Temporal's: by type, with the domain's word on whether to try again."""

from collections.abc import Generator
from contextlib import contextmanager

from temporalio.exceptions import ApplicationError

from settlement.errors import CroupierError


@contextmanager
def application_errors() -> Generator[None]:
    """Turns a domain error into an `ApplicationError` whose `type` is the domain class's name."""
    try:
        yield
    except CroupierError as error:
        # Without its causes: a driver's stack takes more than the 4 KB that the server keeps of a failure that is tried again, and
        # people would read "Failure exceeds size limit." for the reason.
        raise ApplicationError(str(error), type=type(error).__name__, non_retryable=not error.retryable) from None
