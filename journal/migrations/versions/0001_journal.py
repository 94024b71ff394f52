"""The journal's first schema. Names of constraints come from the metadata's naming convention."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

APPEND_ONLY = ("transitions", "attempts", "rejections", "reconciliations", "findings")


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "lanes",
        sa.Column("lane", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("last_number", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "batches",
        sa.Column("batch_id", sa.Text, primary_key=True),
        sa.Column("lane", sa.Integer, sa.ForeignKey("lanes.lane"), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("claimed_at", moment, nullable=False),
        sa.Column("circuit_id", sa.Integer),
        sa.Column("bets_root", sa.Text),
        sa.Column("bet_count", sa.Integer),
        sa.Column("player_count", sa.Integer),
        sa.Column("house_delta", sa.BigInteger),
        sa.Column("proof_milliseconds", sa.BigInteger),
        sa.Column("signature", sa.Text),
        sa.Column("slot", sa.BigInteger),
        sa.Column("compute_units", sa.BigInteger),
        sa.Column("fee_lamports", sa.BigInteger),
        sa.UniqueConstraint("lane", "number"),
        sa.CheckConstraint("number > 0", name="number_positive"),
    )
    op.create_index("ix_batches_claimed_at", "batches", ["claimed_at"])
    op.create_table(
        "batch_slots",
        sa.Column("batch_id", sa.Text, sa.ForeignKey("batches.batch_id"), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("player", sa.Text, nullable=False),
        sa.Column("vault_index", sa.BigInteger, nullable=False),
        sa.Column("net", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "transitions",
        sa.Column("batch_id", sa.Text, sa.ForeignKey("batches.batch_id"), primary_key=True),
        sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("at", moment, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
    )
    op.create_table(
        "bets",
        sa.Column("bet_id", sa.Text, primary_key=True),
        sa.Column("lane", sa.Integer, sa.ForeignKey("lanes.lane"), nullable=False),
        sa.Column("batch_id", sa.Text, sa.ForeignKey("batches.batch_id"), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("player", sa.Text, nullable=False),
        sa.Column("stake", sa.BigInteger, nullable=False),
        sa.Column("guess", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("placed_at", sa.Text),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("decided_at", moment),
        sa.Column("reason", sa.Text),
        sa.Column("detail", sa.Text, nullable=False),
        sa.UniqueConstraint("batch_id", "position"),
        sa.CheckConstraint("stake > 0", name="stake_positive"),
    )
    op.create_index("ix_bets_lane_status_player", "bets", ["lane", "status", "player"])
    op.create_index("ix_bets_status_decided_at", "bets", ["status", "decided_at"])
    op.create_table(
        "attempts",
        sa.Column("batch_id", sa.Text, sa.ForeignKey("batches.batch_id"), primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("bets_root", sa.Text, nullable=False),
        sa.Column("signature", sa.Text, nullable=False),
        sa.Column("raw", sa.Text, nullable=False),
        sa.Column("last_valid_block_height", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("signature"),
    )
    op.create_table(
        "rejections",
        sa.Column("rejection_id", sa.Text, primary_key=True),
        sa.Column("lane", sa.Integer, nullable=False),
        sa.Column("bet_id", sa.Text),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("at", moment, nullable=False),
    )
    op.create_index("ix_rejections_at", "rejections", ["at"])
    op.create_index("ix_rejections_bet_id_at", "rejections", ["bet_id", "at"])
    op.create_table(
        "reconciliations",
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("lane", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", moment, nullable=False),
        sa.Column("batches_compared", sa.BigInteger, nullable=False),
        sa.Column("players_compared", sa.BigInteger, nullable=False),
        sa.Column("open_batches", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_reconciliations_at", "reconciliations", ["at"])
    op.create_table(
        "findings",
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("lane", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("journal", sa.Text, nullable=False),
        sa.Column("chain", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(["run_id", "lane"], ["reconciliations.run_id", "reconciliations.lane"]),
    )
    _forbid_changes()


def _forbid_changes() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for table in APPEND_ONLY:
            for change in ("UPDATE", "DELETE"):
                op.execute(
                    f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} "
                    f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
                )
        return
    # 23001: restrict_violation.
    op.execute(
        "CREATE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = '23001'; END $$"
    )
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION append_only()"
        )
