"""Holds `docker-compose.yml` and the `Dockerfile` against what they must agree with: the Compose specification, the settings the
code reads, the programs they start and the files they carry. No container engine runs here, so no test starts a container.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import pytest
import yaml
from temporalio.envconfig import ClientConfigProfile

from embedded.site import TEMPORAL_SETTINGS
from settings import PREFIX, Settings
from workflows import names

ROOT = Path(__file__).resolve().parents[2]
COMPOSE_FILE = ROOT / "docker-compose.yml"
PROGRAM_TIMEOUT_SECONDS = 30

OWN_IMAGE = "croupier"
WORKERS = ("settlement-worker", "proving-worker")
ONE_SHOTS = ("temporal-schema", "temporal-namespace", "provision")

# What each image of others reads from the environment: the server's config_template_embedded.yaml (1.32), the flags of
# temporal-sql-tool, the client's environment configuration, the UI server's config/docker.yaml (2.54), PostgreSQL's entry point.
VARIABLES_OF_OTHERS = {
    "postgres": {"POSTGRES_PASSWORD"},
    "temporalio/server": {
        "DB",
        "DB_PORT",
        "POSTGRES_SEEDS",
        "POSTGRES_USER",
        "POSTGRES_PWD",
        "NUM_HISTORY_SHARDS",
        "BIND_ON_IP",
        "DYNAMIC_CONFIG_FILE_PATH",
    },
    "temporalio/admin-tools": {
        "SQL_PLUGIN",
        "SQL_HOST",
        "SQL_PORT",
        "SQL_USER",
        "SQL_PASSWORD",
        "TEMPORAL_ADDRESS",
        "TEMPORAL_NAMESPACE",
    },
    "temporalio/ui": {"TEMPORAL_ADDRESS", "TEMPORAL_DEFAULT_NAMESPACE", "TEMPORAL_CORS_ORIGINS"},
}

Service: TypeAlias = dict[str, Any]

INTERPOLATION = re.compile(r"\$\{(?P<name>\w+)(?:(?P<operator>:[-?])(?P<operand>[^}]*))?\}")
REQUIRED = {match["name"] for match in INTERPOLATION.finditer(COMPOSE_FILE.read_text()) if match["operator"] == ":?"}


def interpolated(text: str) -> str:
    """`text` as Compose reads it where only the required variables are set, each to its own name in lower case."""

    def value(match: re.Match[str]) -> str:
        if match["operator"] == ":?":
            return match["name"].lower()
        assert match["operator"] == ":-", f"${{{match['name']}}} is silently empty when it is not set"
        return match["operand"]

    return INTERPOLATION.sub(value, text)


COMPOSE: dict[str, Any] = yaml.safe_load(interpolated(COMPOSE_FILE.read_text()))
SERVICES: dict[str, Service] = COMPOSE["services"]
OWN = {name: service for name, service in SERVICES.items() if "build" in service}
DOCKERFILE = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())


def environment(service: Service) -> dict[str, str]:
    return {name: str(value) for name, value in service.get("environment", {}).items()}


def image_name(service: Service) -> str:
    return service["image"].rpartition(":")[0]


def mounts(service: Service) -> dict[str, str]:
    """Volume name or host path of each mount, by its place in the container."""
    parts = [volume.split(":") for volume in service.get("volumes", [])]
    return {part[1]: part[0] for part in parts}


def instructions(keyword: str) -> list[str]:
    """The arguments of each of the Dockerfile's instructions of this keyword, in order."""
    return [line.split(maxsplit=1)[1] for line in DOCKERFILE.splitlines() if line.startswith(f"{keyword} ")]


def copied() -> list[str]:
    return [source.rstrip("/") for line in instructions("COPY") for source in line.split()[:-1]]


def program_help(arguments: list[str]) -> str:
    """What `python …` prints for these leading arguments (a script or `-m module`, then sub-commands) and --help."""
    wide = {**os.environ, "COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}
    result = subprocess.run(
        [sys.executable, *arguments, "--help"],
        cwd=ROOT,
        env=wide,
        capture_output=True,
        text=True,
        timeout=PROGRAM_TIMEOUT_SECONDS,
    )
    assert result.returncode == 0, f"python {' '.join(arguments)} --help: {result.stderr}"
    return result.stdout


class TestTheComposeFile:
    def test_satisfies_the_compose_specification(self) -> None:
        checker = shutil.which("check-jsonschema", path=Path(sys.executable).parent)
        assert checker, "check-jsonschema is not installed: pip install the dev extra"
        result = subprocess.run(
            [checker, "--builtin-schema", "vendor.compose-spec", str(COMPOSE_FILE)],
            capture_output=True,
            text=True,
            timeout=PROGRAM_TIMEOUT_SECONDS,
        )
        assert result.returncode == 0, result.stdout + result.stderr

    def test_has_every_part_of_the_system(self) -> None:
        others = {"postgres", "temporal-schema", "temporal", "temporal-namespace", "temporal-ui"}
        assert set(SERVICES) == {*others, "ledger", "provision", *WORKERS}
        assert set(OWN) == {"ledger", "provision", *WORKERS}

    @pytest.mark.parametrize("name", SERVICES)
    def test_waits_only_for_what_can_come_true(self, name: str) -> None:
        for needed, rule in SERVICES[name].get("depends_on", {}).items():
            assert needed in SERVICES
            if rule["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[needed], f"{name} waits for the health of {needed}, which has no check"
            else:
                assert rule["condition"] == "service_completed_successfully"
                assert needed in ONE_SHOTS, f"{name} waits for the end of {needed}, which never ends"

    def test_starts_in_an_order_that_exists(self) -> None:
        def before(name: str, path: tuple[str, ...] = ()) -> set[str]:
            assert name not in path, f"{name} waits for itself"
            needed = set(SERVICES[name].get("depends_on", {}))
            return needed.union(*(before(other, (*path, name)) for other in needed))

        assert before("temporal") >= {"postgres", "temporal-schema"}
        for worker in WORKERS:
            assert before(worker) >= {"temporal-namespace", "provision", "ledger"}

    @pytest.mark.parametrize("name", SERVICES)
    def test_a_service_that_stays_is_watched_and_restarted_and_a_one_shot_ends(self, name: str) -> None:
        service = SERVICES[name]
        if name in ONE_SHOTS:
            assert service["restart"].startswith("on-failure:")
        else:
            assert service["restart"] == "unless-stopped"
            assert {"test", "interval", "timeout", "retries", "start_period"} <= set(service["healthcheck"])

    @pytest.mark.parametrize("name", SERVICES)
    def test_limits_what_a_service_logs(self, name: str) -> None:
        assert {"max-size", "max-file"} <= set(SERVICES[name]["logging"]["options"])

    @pytest.mark.parametrize("name", SERVICES)
    def test_pins_every_image_to_a_full_version_and_names_no_registry(self, name: str) -> None:
        image: str = SERVICES[name]["image"]
        assert re.fullmatch(r"([a-z]+/)?[a-z-]+:\d+\.\d+(\.\d+)?(-[a-z]+)?", image), f"{image} is not pinned"
        assert "auto-setup" not in image

    def test_sets_up_the_schema_of_the_server_that_it_runs(self) -> None:
        tags = {
            service["image"].rpartition(":")[2]
            for service in SERVICES.values()
            if image_name(service) in ("temporalio/server", "temporalio/admin-tools")
        }
        assert len(tags) == 1

    def test_tags_its_own_image_with_the_version_of_the_project(self) -> None:
        version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
        assert {service["image"] for service in OWN.values()} == {f"{OWN_IMAGE}:{version}"}

    def test_declares_every_named_volume_and_finds_every_mounted_path(self) -> None:
        sources = {source for service in SERVICES.values() for source in mounts(service).values()}
        paths = {source for source in sources if source.startswith(".")}
        assert sources - paths == set(COMPOSE["volumes"])
        for path in paths:
            assert (ROOT / path).is_dir(), f"{path} does not exist"

    def test_keeps_what_must_survive_in_named_volumes(self) -> None:
        # From PostgreSQL 18 the image keeps its data in a directory per major version below this one.
        assert mounts(SERVICES["postgres"])["/var/lib/postgresql"] == "postgres"
        database = SERVICES["ledger"]["command"][SERVICES["ledger"]["command"].index("--db") + 1]
        assert str(Path(database).parent) in mounts(SERVICES["ledger"])

    def test_publishes_each_port_once_and_only_to_this_host(self) -> None:
        published: list[str] = [port for service in SERVICES.values() for port in service.get("ports", [])]
        assert all(port.startswith("127.0.0.1:") for port in published)
        assert len({port.split(":")[1] for port in published}) == len(published)

    @pytest.mark.parametrize("name", WORKERS)
    def test_lets_a_worker_be_scaled(self, name: str) -> None:
        assert not {"container_name", "ports", "hostname"} & set(SERVICES[name])

    def test_asks_for_every_password_and_holds_none(self) -> None:
        declared = re.findall(r"^(\w+)=(.*)$", (ROOT / "deploy" / "example.env").read_text(), re.MULTILINE)
        assert {name for name, _ in declared} == {*REQUIRED, f"{PREFIX}PROGRAM_ID"}
        assert not any(value for _, value in declared)
        for service in SERVICES.values():
            for name, value in environment(service).items():
                if name.endswith(("PASSWORD", "PWD")):
                    assert value in {required.lower() for required in REQUIRED}

    def test_keeps_the_signing_key_and_the_journal_from_the_proving_worker(self) -> None:
        worker = SERVICES["proving-worker"]
        assert "keys" not in mounts(worker).values()
        assert f"{PREFIX}JOURNAL_URL" not in environment(worker)

    @pytest.mark.parametrize("name", OWN)
    def test_runs_its_own_image_without_privileges(self, name: str) -> None:
        service = SERVICES[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert "user" not in service


class TestTheEnvironment:
    @pytest.mark.parametrize("name", OWN)
    def test_sets_only_what_the_settings_read_and_they_accept_it(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for variable in [variable for variable in os.environ if variable.startswith(PREFIX)]:
            monkeypatch.delenv(variable)
        given = {key: value for key, value in environment(SERVICES[name]).items() if key.startswith(PREFIX)}
        assert {key.removeprefix(PREFIX).lower() for key in given} <= set(Settings.model_fields)
        for key, value in given.items():
            monkeypatch.setenv(key, value)
        Settings()

    @pytest.mark.parametrize("name", [*OWN, "temporal-namespace"])
    def test_sets_only_what_temporals_environment_configuration_reads(self, name: str) -> None:
        given = {key: value for key, value in environment(SERVICES[name]).items() if key.startswith("TEMPORAL_")}
        profile = ClientConfigProfile.load(override_env_vars=given, disable_file=True)
        for key in given:
            without = {other: value for other, value in given.items() if other != key}
            assert ClientConfigProfile.load(override_env_vars=without, disable_file=True) != profile, (
                f"{key} is not read"
            )

    @pytest.mark.parametrize("name", sorted(set(SERVICES) - set(OWN)))
    def test_sets_only_what_the_other_images_or_our_scripts_read(self, name: str) -> None:
        service = SERVICES[name]
        ours = "".join(
            file.read_text()
            for source in mounts(service).values()
            if source.startswith(".")
            for file in (ROOT / source).iterdir()
        )
        for variable in environment(service):
            assert variable in VARIABLES_OF_OTHERS[image_name(service)] or variable in ours, f"nothing reads {variable}"

    @pytest.mark.parametrize("name", OWN)
    def test_sets_nothing_else_for_the_projects_own_programs(self, name: str) -> None:
        assert all(key.startswith((PREFIX, "TEMPORAL_")) for key in environment(SERVICES[name]))

    @pytest.mark.parametrize("name", ["provision", *WORKERS])
    def test_gives_every_program_temporals_address(self, name: str) -> None:
        assert {"TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE"} <= set(environment(SERVICES[name]))

    def test_tells_the_settlement_worker_its_program_and_provisioning_where_its_key_is(self) -> None:
        assert f"{PREFIX}PROGRAM_ID" in environment(SERVICES["settlement-worker"])
        assert f"{PREFIX}PROGRAM_KEYPAIR" in environment(SERVICES["provision"])

    def test_names_one_namespace_throughout(self) -> None:
        names = {
            value
            for service in SERVICES.values()
            for key, value in environment(service).items()
            if key in ("TEMPORAL_NAMESPACE", "TEMPORAL_DEFAULT_NAMESPACE")
        }
        assert len(names) == 1

    def test_reaches_services_that_exist_at_the_ports_they_listen_on(self) -> None:
        ports = {"postgres": 5432, "temporal": 7233, "ledger": 8899}
        assert SERVICES["ledger"]["command"][-2:] == ["--port", str(ports["ledger"])]
        for name, service in SERVICES.items():
            for key, value in environment(service).items():
                if key in ("SQL_HOST", "POSTGRES_SEEDS"):
                    assert value in ports
                elif key in ("SQL_PORT", "DB_PORT"):
                    assert int(value) == ports["postgres"]
                elif key.endswith(("_URL", "_ADDRESS")):
                    address = urlsplit(value if "://" in value else f"//{value}")
                    assert (address.hostname, address.port) in ports.items(), f"{name}: {key} leads nowhere"

    def test_connects_as_roles_and_to_databases_that_are_created(self) -> None:
        created = (ROOT / "deploy" / "postgres" / "databases.sql").read_text()
        roles = set(re.findall(r"CREATE ROLE (\w+)", created))
        owners = dict(re.findall(r"CREATE DATABASE (\w+) OWNER (\w+)", created))
        journal = urlsplit(environment(SERVICES["settlement-worker"])[f"{PREFIX}JOURNAL_URL"])
        assert owners == {"temporal": "temporal", "temporal_visibility": "temporal", "croupier": "croupier"}
        assert owners[journal.path.removeprefix("/")] == journal.username
        assert roles == {
            journal.username,
            environment(SERVICES["temporal"])["POSTGRES_USER"],
            environment(SERVICES["temporal-schema"])["SQL_USER"],
        }

    def test_keeps_keys_and_circuits_in_the_volumes(self) -> None:
        for name in ("provision", *WORKERS):
            given = environment(SERVICES[name])
            for variable in (f"{PREFIX}AUTHORITY_KEYPAIR", f"{PREFIX}PROGRAM_KEYPAIR"):
                if variable in given:
                    assert str(Path(given[variable]).parent) in mounts(SERVICES[name])
        for name in ("provision", "proving-worker"):
            assert environment(SERVICES[name])[f"{PREFIX}CIRCUIT_KEYS"] in mounts(SERVICES[name])


class TestTheCommands:
    @pytest.mark.parametrize("name", OWN)
    def test_start_programs_that_exist_with_options_they_know(self, name: str) -> None:
        python, *arguments = SERVICES[name]["command"]
        assert python == "python"
        program = arguments[:2] if arguments[0] == "-m" else arguments[:1]
        rest = arguments[len(program) :]
        first_option = next((at for at, word in enumerate(rest) if word.startswith("--")), len(rest))
        text = program_help([*program, *rest[:first_option]])
        for option in [word for word in rest if word.startswith("--")]:
            assert re.search(rf"(?<![\w-]){option}(?![\w-])", text), f"{' '.join(program)} has no option {option}"

    @pytest.mark.parametrize("name", WORKERS)
    def test_start_a_worker_on_a_queue_that_it_knows_and_watch_that_queue(self, name: str) -> None:
        service = SERVICES[name]
        *_, option, queue = service["command"]
        assert option == "--queues"
        assert queue in (names.SETTLEMENT_QUEUE, names.PROVING_QUEUE)
        assert queue in program_help(["worker.py"])
        assert name == f"{queue}-worker"
        assert service["healthcheck"]["test"] == ["CMD", "python", "-m", "deploy.worker_health", queue]

    @pytest.mark.parametrize("name", ["temporal-schema", "temporal-namespace"])
    def test_run_setup_scripts_that_are_mounted(self, name: str) -> None:
        service = SERVICES[name]
        shell, script = service["command"]
        assert shell == "sh"
        directory = mounts(service)[str(Path(script).parent)]
        assert (ROOT / directory / Path(script).name).is_file()

    def test_give_the_server_a_dynamic_configuration_that_is_mounted(self) -> None:
        service = SERVICES["temporal"]
        file = Path(environment(service)["DYNAMIC_CONFIG_FILE_PATH"])
        configured = yaml.safe_load((ROOT / mounts(service)[str(file.parent)] / file.name).read_text())
        assert configured == {name: [{"value": value}] for name, value in TEMPORAL_SETTINGS.items()}


class TestTheDockerfile:
    def test_copies_only_what_exists_and_is_not_ignored(self) -> None:
        ignored = (ROOT / ".dockerignore").read_text().split("\n")
        for source in copied():
            assert (ROOT / source).exists(), f"COPY {source}: it does not exist"
            assert source.split("/")[0] not in ignored, f"COPY {source}: .dockerignore hides it"

    def test_copies_every_module_that_its_programs_import(self) -> None:
        def files(module: str) -> list[Path]:
            package = ROOT / module
            return sorted(package.rglob("*.py")) if package.is_dir() else [ROOT / f"{module}.py"]

        def imported(file: Path) -> set[str]:
            found: set[str] = set()
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    found |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    found.add(node.module.split(".")[0])
            return {name for name in found if (ROOT / name).is_dir() or (ROOT / f"{name}.py").is_file()}

        reached: set[str] = set()
        waiting = {"worker", "starter", "localnet", "deploy"}
        while waiting:
            module = waiting.pop()
            reached.add(module)
            waiting |= {name for file in files(module) for name in imported(file)} - reached
        assert reached - {"deploy"} <= {source.removesuffix(".py") for source in copied()}
        assert "deploy/worker_health.py" in copied()

    def test_starts_from_a_pinned_image_of_the_supported_python(self) -> None:
        (base,) = instructions("FROM")
        assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", base)
        required = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
        assert required == f">={re.findall(r'3[.][0-9]+', base)[0]}"

    def test_installs_exactly_the_locked_dependencies(self) -> None:
        (install,) = [line for line in instructions("RUN") if line.startswith("pip install")]
        assert "--require-hashes" in install
        assert install.endswith("-r requirements.lock")
        locked = re.sub(r"\\\n\s*", "", (ROOT / "requirements.lock").read_text())
        requirements = [line for line in locked.splitlines() if re.match(r"\w", line)]
        assert requirements
        assert all("==" in line and "--hash=sha256:" in line for line in requirements)

    def test_does_not_run_as_root_and_owns_the_volumes_it_writes(self) -> None:
        assert instructions("USER") == ["10001:10001"]
        (setup,) = [line for line in instructions("RUN") if line.startswith("groupadd")]
        assert "--gid 10001 croupier" in setup
        assert "--uid 10001 --gid croupier" in setup
        made = setup.partition("install --directory --owner=croupier")[2].split()
        volumes = set(COMPOSE["volumes"])
        for service in OWN.values():
            for target, source in mounts(service).items():
                assert source in volumes
                assert target in made, f"{target} would belong to root"
