"""Which jobs send the same request once, and how many lines that saved."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "job", sa.Column("dedupe", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    counter = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.add_column("job", sa.Column("deduplicated", counter, nullable=False, server_default="0"))
