"""Connects to Temporal the standard way: `TEMPORAL_…` variables or Temporal's configuration file."""

import os
import sys
from typing import NoReturn

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfig
from temporalio.service import RPCError

DEFAULT_ADDRESS = "localhost:7233"


class TemporalUnreachable(Exception):
    """No Temporal server answers. The text names the address and the remedy."""


async def connect() -> Client:
    """A client with the pydantic converter. Raises `TemporalUnreachable`."""
    options = ClientConfig.load_client_connect_config()
    address = options.setdefault("target_host", DEFAULT_ADDRESS)
    try:
        return await Client.connect(**options, data_converter=pydantic_data_converter)
    except (RPCError, RuntimeError) as error:
        raise TemporalUnreachable(
            f"no Temporal server answers at {address}: start one (`make up`) or set TEMPORAL_ADDRESS ({error})"
        ) from error


def end_process(status: int) -> NoReturn:
    """Ends the process now. After a failed connection the SDK's threads can abort the interpreter's orderly shutdown (SIGABRT)."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
