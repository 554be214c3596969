"""Which model the rest of a shard waits for, where the worker that let go of it has it not."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("shard", sa.Column("wanted", sa.Text(), nullable=True))
    where = sa.text("state = 'open' AND wanted IS NOT NULL")
    op.create_index(
        "shard_wanted", "shard", ["job_id", "wanted"], sqlite_where=where, postgresql_where=where
    )
