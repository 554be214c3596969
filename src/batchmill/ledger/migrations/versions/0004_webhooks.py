"""Webhooks: where a job reports to, and the deliveries of its event."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("job", sa.Column("webhook_url", sa.Text, nullable=True))
    _delivery()
    _shard_indexes()


def _delivery() -> None:
    op.create_table(
        "delivery",
        sa.Column("ordinal", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("receiver", sa.Text, nullable=False),
        sa.Column("configured", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("ending", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False, server_default="pending"),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("since", sa.Double, nullable=False),
        sa.Column("attempts", _NUMBER, nullable=False, server_default="0"),
        sa.Column("last_at", sa.Double, nullable=True),
        sa.Column("last_status", sa.Integer, nullable=True),
        sa.Column("last_error", sa.Text, nullable=True),
        sa.Column("next_at", sa.Double, nullable=True),
        sa.Column("ended_at", sa.Double, nullable=True),
        sa.PrimaryKeyConstraint("ordinal"),
        sa.UniqueConstraint("id"),
        sa.UniqueConstraint("job_id", "n"),
        sqlite_autoincrement=True,
    )
    op.create_index("delivery_listed", "delivery", ["tenant", "ordinal"])
    _partial("delivery_ended", "delivery", ["ended_at"], "ended_at IS NOT NULL")


def _shard_indexes() -> None:
    """Deliveries may wait in great number, so they leave the index of the few other chores."""
    op.drop_index("shard_chore", "shard")
    others = "state = 'open' AND kind <> 'run' AND kind <> 'deliver'"
    _partial("shard_chore", "shard", ["kind"], others)
    waits = ["run_boot", "run_after", "job_id", "n"]
    _partial("shard_deliver", "shard", waits, "state = 'open' AND kind = 'deliver'")


def _partial(name: str, table: str, columns: list[str], only: str) -> None:
    where = sa.text(only)
    op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)
