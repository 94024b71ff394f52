"""Connects to Temporal the standard way: `TEMPORAL_…` variables or Temporal's configuration file."""

import os
import re
import sys
from typing import NoReturn

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfig
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig
from temporalio.service import RPCError, RPCStatusCode

from settings import InvalidSetting

DEFAULT_ADDRESS = "localhost:7233"
INNERMOST_TEXT = re.compile(r'"((?:[^"\\]|\\.)+)"')


class TemporalUnreachable(Exception):
    """No Temporal server answers. The text names the address and the remedy."""


async def connect(metrics_address: str | None = None) -> Client:
    """A client with the pydantic converter. Raises `TemporalUnreachable`, or `InvalidSetting` if its settings cannot be read.

    `metrics_address`: host:port where its own metrics and those of its workers are served to Prometheus.
    """
    runtime = None if metrics_address is None else _runtime(metrics_address)
    try:
        options = ClientConfig.load_client_connect_config()
    except (RuntimeError, ValueError, OSError) as error:
        raise InvalidSetting(f"Temporal's settings (TEMPORAL_…) cannot be used: {_one_line(error)}") from error
    address = options.setdefault("target_host", DEFAULT_ADDRESS)
    try:
        client = await Client.connect(**options, data_converter=pydantic_data_converter, runtime=runtime)
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=client.namespace))
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise TemporalUnreachable(
                f"the Temporal server at {address} has no such namespace: create it or set TEMPORAL_NAMESPACE ({error})"
            ) from error
        raise TemporalUnreachable(
            f"the Temporal server at {address} refuses: check TEMPORAL_… ({_one_line(error)})"
        ) from error
    except (RuntimeError, ValueError) as error:
        raise TemporalUnreachable(
            f"no Temporal server answers at {address}: start one (`make up`) or set TEMPORAL_ADDRESS ({_reason(error)})"
        ) from error
    return client


def _runtime(metrics_address: str) -> Runtime:
    try:
        return Runtime(telemetry=TelemetryConfig(metrics=PrometheusConfig(bind_address=metrics_address)))
    except (RuntimeError, ValueError) as error:
        raise InvalidSetting(
            f"CROUPIER_METRICS_ADDRESS: metrics cannot be served at {metrics_address}: name a free port of an address of"
            f" this machine, like 127.0.0.1:9464 ({_one_line(error)})"
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
