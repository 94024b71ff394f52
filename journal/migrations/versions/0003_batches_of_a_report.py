"""A report says of how many batches it has compared some. Those that were written before do not."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("reconciliations", sa.Column("batches", sa.BigInteger))
