"""Which jobs were let in, for the tenants' quotas."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "job", sa.Column("let_in", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    job = sa.table("job", sa.column("state", sa.Text), sa.column("let_in", sa.Boolean))
    op.execute(sa.update(job).where(job.c.state == "running").values(let_in=sa.true()))
