"""Creates that are known when they are sent again, and files that come in pieces."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0001"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _idempotency()
    _assemblies()


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, _NUMBER, nullable=False, server_default="0")


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


def _assemblies() -> None:
    op.create_table(
        "assembly",
        _text("id"),
        _text("tenant"),
        _text("filename"),
        _text("purpose"),
        _text("mimetype", nullable=True),
        _count("size_bytes"),
        sa.Column("lasts_seconds", sa.BigInteger, nullable=True),
        sa.Column("state", sa.Text, nullable=False, server_default="pending"),
        _time("created_at"),
        _time("expires_at"),
        _text("file_id", nullable=True),
        sa.Column("piece_ids", sa.Text, nullable=False, server_default="[]"),
        _count("pieces"),
        _count("received_bytes"),
        sa.PrimaryKeyConstraint("id"),
    )
    pending = sa.text("state = 'pending'")
    op.create_index(
        "assembly_pending",
        "assembly",
        ["expires_at"],
        sqlite_where=pending,
        postgresql_where=pending,
    )
    op.create_index("assembly_by_age", "assembly", ["created_at"])
    op.create_table(
        "assembly_piece",
        _text("id"),
        _text("assembly_id"),
        _text("blob"),
        _count("size_bytes"),
        _time("created_at"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("blob"),
    )
    op.create_index("assembly_piece_of", "assembly_piece", ["assembly_id"])
