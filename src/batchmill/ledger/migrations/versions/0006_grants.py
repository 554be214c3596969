"""Shares of the limits on engines, and the deck that is locked while one grows."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    grant = op.create_table(
        "grant",
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("version", _NUMBER, nullable=False, server_default="0"),
        sa.Column("lots", sa.Text, nullable=False),
        sa.Column("lease_until", sa.Double, nullable=False),
        sa.Column("lease_boot", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("owner"),
    )
    deck = {"owner": "", "version": 0, "lots": "[]", "lease_until": 0.0, "lease_boot": ""}
    op.bulk_insert(grant, [deck])
