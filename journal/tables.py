"""The journal's schema. Changed only together with a migration; a test holds the two equal.

Amounts are lamports in signed 64 bits; field elements 64 hex digits. Of `APPEND_ONLY`, no row is ever changed or removed, which
triggers of the first migration enforce.
"""

from datetime import UTC, datetime
from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import TypeDecorator

SCHEMA_VERSION: Final = "0003"
"""The migration that makes this schema. Versions are numbers of four digits, so the later is the greater."""


class UtcTime(TypeDecorator[datetime]):
    """A moment, in UTC. SQLite keeps no offset with a time, so it is written as UTC and read as such."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class ForeignText(TypeDecorator[str]):
    """Text from outside. NUL, which PostgreSQL cannot hold, becomes U+FFFD; a lone surrogate, which no UTF-8 can, becomes `?`."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        if value is None:
            return None
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

lanes = Table(
    "lanes",
    metadata,
    Column("lane", Integer, primary_key=True, autoincrement=False),
    Column("last_number", BigInteger, nullable=False),
)
"""`last_number`: up to which the journal holds every batch that the chain holds, as far as it was given by claims of its own; batches
that were put back into it under numbers of theirs may stand above. Its row is the lock under which numbers are given."""

batches = Table(
    "batches",
    metadata,
    Column("batch_id", ForeignText, primary_key=True),
    Column("lane", Integer, ForeignKey(lanes.c.lane), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("status", Text, nullable=False),
    Column("claimed_at", UtcTime, nullable=False),
    # What was proven of the batch as it stands now; all None until then, and again when a bet or the number changes.
    Column("circuit_id", Integer),
    Column("bets_root", Text),
    Column("bet_count", Integer),
    Column("player_count", Integer),
    Column("house_delta", BigInteger),
    Column("proof_milliseconds", BigInteger),
    # How it landed.
    Column("signature", Text),
    Column("slot", BigInteger),
    Column("compute_units", BigInteger),
    Column("fee_lamports", BigInteger),
    UniqueConstraint("lane", "number"),
    CheckConstraint("number > 0", "number_positive"),
    Index(None, "claimed_at"),
)

batch_slots = Table(
    "batch_slots",
    metadata,
    Column("batch_id", ForeignText, ForeignKey(batches.c.batch_id), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("player", Text, nullable=False),
    Column("vault_index", BigInteger, nullable=False),
    Column("net", BigInteger, nullable=False),
)
"""Each player's place and net in the statement that was proven of the batch."""

transitions = Table(
    "transitions",
    metadata,
    Column("batch_id", ForeignText, ForeignKey(batches.c.batch_id), primary_key=True),
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("status", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("detail", ForeignText, nullable=False),
)

bets = Table(
    "bets",
    metadata,
    Column("bet_id", ForeignText, primary_key=True),
    Column("lane", Integer, ForeignKey(lanes.c.lane), nullable=False),
    Column("batch_id", ForeignText, ForeignKey(batches.c.batch_id), nullable=False),
    Column("position", Integer, nullable=False),
    Column("player", ForeignText, nullable=False),
    Column("stake", BigInteger, nullable=False),
    Column("guess", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    # Text, since it is the sender's word with his offset, and may lie where no UTC time does.
    Column("placed_at", Text),
    Column("digest", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("decided_at", UtcTime),
    Column("reason", Text),
    Column("detail", ForeignText, nullable=False),
    UniqueConstraint("batch_id", "position"),
    CheckConstraint("stake > 0", "stake_positive"),
    Index(None, "lane", "status", "player"),
    Index(None, "status", "decided_at"),
)
"""One row for each bet id ever claimed. `decided_at`: when it became settled or rejected."""

attempts = Table(
    "attempts",
    metadata,
    Column("batch_id", ForeignText, ForeignKey(batches.c.batch_id), primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, nullable=False),
    Column("bets_root", Text, nullable=False),
    Column("signature", Text, nullable=False),
    Column("raw", Text, nullable=False),
    Column("last_valid_block_height", BigInteger, nullable=False),
    UniqueConstraint("signature"),
)

rejections = Table(
    "rejections",
    metadata,
    Column("rejection_id", ForeignText, primary_key=True),
    Column("lane", Integer, nullable=False),
    Column("bet_id", ForeignText),
    Column("reason", Text, nullable=False),
    Column("detail", ForeignText, nullable=False),
    Column("payload", ForeignText, nullable=False),
    Column("at", UtcTime, nullable=False),
    Index(None, "at"),
    Index(None, "bet_id", "at"),
)
"""What never became a bet of a batch."""

parked_bets = Table(
    "parked_bets",
    metadata,
    Column("lane", Integer, primary_key=True, autoincrement=False),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("bet_id", ForeignText, nullable=False),
    Column("player", ForeignText, nullable=False),
    Column("stake", BigInteger, nullable=False),
    Column("guess", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("placed_at", Text),
    Column("digest", Text, nullable=False),
    Column("since", UtcTime, nullable=False),
    UniqueConstraint("lane", "bet_id"),
)
"""Signalled bets that their lane's queue has no room for, until it has. `position`: the order of their coming on the lane."""

reconciliations = Table(
    "reconciliations",
    metadata,
    Column("run_id", ForeignText, primary_key=True),
    Column("lane", Integer, primary_key=True, autoincrement=False),
    Column("at", UtcTime, nullable=False),
    Column("batches_compared", BigInteger, nullable=False),
    Column("players_compared", BigInteger, nullable=False),
    Column("open_batches", BigInteger, nullable=False),
    Column("batches", BigInteger),
    Index(None, "at"),
)

findings = Table(
    "findings",
    metadata,
    Column("run_id", ForeignText, primary_key=True),
    Column("lane", Integer, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("subject", ForeignText, nullable=False),
    Column("journal", ForeignText, nullable=False),
    Column("chain", ForeignText, nullable=False),
    ForeignKeyConstraint(["run_id", "lane"], [reconciliations.c.run_id, reconciliations.c.lane]),
)

APPEND_ONLY: Final = (transitions, attempts, rejections, reconciliations, findings)
