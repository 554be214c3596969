"""Creates that are known when they are sent again."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0001"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _idempotency()


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=nullable)


def _time(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=False)


def _idempotency() -> None:
    op.create_table(
        "idempotency",
        sa.Column("ordinal", _NUMBER, autoincrement=True, nullable=False),
        _text("tenant"),
        _text("route"),
        _text("key", nullable=True),
        _text("body"),
        _text("api_key"),
        _text("job_id"),
        _time("created_at"),
        sa.PrimaryKeyConstraint("ordinal"),
        sa.UniqueConstraint("tenant", "route", "key"),
    )
    op.create_index("idempotency_by_body", "idempotency", ["body", "api_key"])
    op.create_index("idempotency_by_age", "idempotency", ["created_at"])
