"""Which jobs were let in, for the tenants' quotas; deliveries by state, for the metrics."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "job", sa.Column("let_in", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.create_index("delivery_by_state", "delivery", ["state"])
    job = sa.table("job", sa.column("state", sa.Text), sa.column("let_in", sa.Boolean))
    op.execute(sa.update(job).where(job.c.state == "running").values(let_in=sa.true()))
