"""What an operator can set: environment variables `CROUPIER_…`, read once at the edge and checked there.

Temporal's own connection (address, namespace, TLS, API key) is set in Temporal's standard way: `TEMPORAL_…` variables or its
configuration file.
"""

import os
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Self

from dotenv import load_dotenv
from pydantic import AnyUrl, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from settlement.limits import DEFAULT_BREAKER_AFTER, MAX_BATCHES_IN_FLIGHT, MAX_LANE, MAX_WINDOW_SECONDS
from settlement.shapes import DEFAULT_SHAPE, SHAPES, Shape, shapes_for

PREFIX = "CROUPIER_"
VAR_VARIABLE = f"{PREFIX}VAR"
VAR = Path(os.environ.get(VAR_VARIABLE) or Path(__file__).parent / "var").absolute()
"""The embedded stack's state, and the defaults of all paths."""

STACK_ENV = VAR / "stack.env"
"""Where the embedded stack says how to reach it, as long as it runs."""


MAX_FURTHER_NODES: Final = 7
"""Every node is asked about every batch."""


class InvalidSetting(Exception):
    """A setting that is missing or wrong. The text names it and the remedy."""


class Commitment(StrEnum):
    """At which of Solana's commitment levels a batch counts as Confirmed."""

    FINALIZED = "finalized"
    CONFIRMED = "confirmed"


class Settings(BaseSettings):
    """All settings with their defaults and bounds. Durations in seconds, amounts in lamports unless the name says otherwise."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="ignore")

    rpc_url: Annotated[AnyUrl, Field(description="the Solana JSON-RPC node")] = AnyUrl("http://127.0.0.1:8899")
    further_rpc_urls: Annotated[
        tuple[AnyUrl, ...],
        NoDecode,
        Field(max_length=MAX_FURTHER_NODES, description="further nodes of the same cluster, separated by commas"),
    ] = ()
    program_id: Annotated[str | None, Field(description="address of the settlement program")] = None
    authority_keypair: Annotated[
        Path, Field(description="key file (solana-keygen JSON, mode 0600) of the authority; it signs and pays")
    ] = VAR / "keys" / "authority.json"
    program_keypair: Annotated[Path, Field(description="key file of the program's address; for deployment only")] = (
        VAR / "keys" / "program.json"
    )
    commitment: Annotated[Commitment, Field(description="commitment level that counts as Confirmed")] = (
        Commitment.FINALIZED
    )
    journal_url: Annotated[
        str, Field(description="the journal: sqlite:///PATH or postgresql://USER:PASSWORD@HOST/DATABASE")
    ] = f"sqlite:///{VAR / 'journal.db'}"
    circuit_keys: Annotated[Path, Field(description="directory of the proving keys")] = VAR / "circuits"
    lanes: Annotated[
        int,
        Field(
            ge=1,
            le=MAX_LANE + 1,
            description="number of lanes; the same for every client, and never changed while there are vaults",
        ),
    ] = 1
    window_seconds: Annotated[
        float, Field(gt=0, le=MAX_WINDOW_SECONDS, description="how old a batch's first bet may get before it is cut")
    ] = 5.0
    max_batch_bets: Annotated[int, Field(ge=1, le=SHAPES[-1].bets, description="bets that fill a batch")] = (
        DEFAULT_SHAPE.bets
    )
    max_batch_players: Annotated[
        int, Field(ge=1, le=SHAPES[-1].players, description="distinct players that fill a batch")
    ] = DEFAULT_SHAPE.players
    max_batches_in_flight: Annotated[
        int, Field(ge=1, le=MAX_BATCHES_IN_FLIGHT, description="settlements a lane runs at once")
    ] = 8
    breaker_after: Annotated[
        int,
        Field(
            ge=1,
            le=MAX_BATCHES_IN_FLIGHT,
            description="settlements stuck in a row after which a lane cuts no batch but to try",
        ),
    ] = DEFAULT_BREAKER_AFTER
    priority_fee_micro_lamports: Annotated[
        int, Field(ge=0, le=10_000_000, description="least price per compute unit, in millionths of a lamport")
    ] = 1_000
    max_priority_fee_micro_lamports: Annotated[
        int,
        Field(
            ge=0,
            le=100_000_000,
            description="most that a settlement offers per compute unit, in millionths of a lamport",
        ),
    ] = 1_000_000
    proving_threads: Annotated[int, Field(ge=1, le=256, description="proofs that one proving worker makes at once")] = 2
    metrics_address: Annotated[
        str | None,
        Field(
            pattern=r"^(\d{1,3}(\.\d{1,3}){3}|\[[0-9a-fA-F:]+\]):\d{1,5}$",
            description="IP address and port where a worker serves its metrics to Prometheus; unset: nowhere",
        ),
    ] = None
    reconcile_every_seconds: Annotated[
        int, Field(ge=10, le=86_400, description="interval of the scheduled reconciliation")
    ] = 300
    accept_forgeable_development_keys: Annotated[
        bool,
        Field(description="use development keys, whose maker can forge proofs, on a ledger that is not the local one"),
    ] = False

    @property
    def rpc_urls(self) -> tuple[str, ...]:
        """All nodes, the preferred first."""
        return tuple(map(str, (self.rpc_url, *self.further_rpc_urls)))

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The circuit shapes in use: those that batches cut under these settings are proven in."""
        return shapes_for(self.max_batch_bets, self.max_batch_players)

    @field_validator("journal_url")
    @classmethod
    def _known_database(cls, value: str) -> str:
        if not value.startswith(("sqlite:///", "postgresql://")):
            raise ValueError("must start with sqlite:/// or postgresql://")
        return value

    @field_validator("rpc_url")
    @classmethod
    def _http(cls, value: AnyUrl) -> AnyUrl:
        if value.scheme not in ("http", "https"):
            raise ValueError("must be an http:// or https:// address")
        return value

    @field_validator("further_rpc_urls", mode="before")
    @classmethod
    def _separated(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("further_rpc_urls")
    @classmethod
    def _all_http(cls, value: tuple[AnyUrl, ...]) -> tuple[AnyUrl, ...]:
        return tuple(map(cls._http, value))

    @model_validator(mode="after")
    def _distinct_nodes(self) -> Self:
        # One node named twice would be its own second witness.
        if len(set(self.rpc_urls)) < len(self.rpc_urls):
            raise ValueError("CROUPIER_RPC_URL and CROUPIER_FURTHER_RPC_URLS name a node twice: name each once")
        return self

    @model_validator(mode="after")
    def _ceiling_above_floor(self) -> Self:
        floor, ceiling = self.priority_fee_micro_lamports, self.max_priority_fee_micro_lamports
        if ceiling < floor:
            raise ValueError(
                f"CROUPIER_MAX_PRIORITY_FEE_MICRO_LAMPORTS ({ceiling}) is less than"
                f" CROUPIER_PRIORITY_FEE_MICRO_LAMPORTS ({floor}): raise the one or lower the other"
            )
        return self


def load_settings() -> Settings:
    """Settings from the environment, completed from `STACK_ENV`. Raises `InvalidSetting` naming every wrong variable."""
    load_dotenv(STACK_ENV, override=False, interpolate=False)
    wrong, settings = _misspelt(), None
    try:
        settings = Settings()
    except ValidationError as error:
        # A value is never shown: a journal's URL holds its password.
        wrong += [
            f"{PREFIX}{str(problem['loc'][0]).upper()}: {problem['msg']}" if problem["loc"] else problem["msg"]
            for problem in error.errors(include_url=False, include_input=False)
        ]
    if settings is None or wrong:
        raise InvalidSetting("; ".join(wrong))
    return settings


def _misspelt() -> list[str]:
    """Variables that look like settings and are none: without a word about them, defaults would hold in their place."""
    known = {name.upper(): f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | {"VAR": VAR_VARIABLE}
    wrong: list[str] = []
    for variable in sorted(os.environ):
        if variable.upper().startswith(PREFIX) and variable not in known.values():
            near = get_close_matches(variable.upper().removeprefix(PREFIX), known, n=1)
            remedy = f"did you mean {known[near[0]]}?" if near else "README, Configuration, has them all"
            wrong.append(f"{variable}: there is no such setting, {remedy}")
    return wrong
