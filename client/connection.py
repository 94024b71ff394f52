"""Connects to Temporal the standard way: `TEMPORAL_…` variables or Temporal's configuration file."""

import os
import re
import sys
from typing import NoReturn

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfig
from temporalio.service import RPCError

from settings import InvalidSetting

DEFAULT_ADDRESS = "localhost:7233"
INNERMOST_TEXT = re.compile(r'"((?:[^"\\]|\\.)+)"')


class TemporalUnreachable(Exception):
    """No Temporal server answers. The text names the address and the remedy."""


async def connect() -> Client:
    """A client with the pydantic converter. Raises `TemporalUnreachable`, or `InvalidSetting` if its settings cannot be read."""
    try:
        options = ClientConfig.load_client_connect_config()
    except (RuntimeError, ValueError, OSError) as error:
        raise InvalidSetting(f"Temporal's settings (TEMPORAL_…) cannot be used: {_one_line(error)}") from error
    address = options.setdefault("target_host", DEFAULT_ADDRESS)
    try:
        return await Client.connect(**options, data_converter=pydantic_data_converter)
    except (RPCError, RuntimeError, ValueError) as error:
        raise TemporalUnreachable(
            f"no Temporal server answers at {address}: start one (`make up`) or set TEMPORAL_ADDRESS ({_reason(error)})"
        ) from error


def _reason(error: Exception) -> str:
    # The SDK prints the error's Rust structure; the innermost text in it is what the operating system or the server has said.
    quoted = INNERMOST_TEXT.findall(str(error))
    return quoted[-1] if quoted else _one_line(error)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def end_process(status: int) -> NoReturn:
    """Ends the process now. After a failed connection the SDK's threads can abort the interpreter's orderly shutdown (SIGABRT)."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
