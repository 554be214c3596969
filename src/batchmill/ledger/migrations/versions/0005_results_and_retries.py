"""What results, error summaries and retries need."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job", sa.Column("failures", sa.Text(), nullable=False, server_default="{}"))
    op.add_column("job", sa.Column("retry_of", sa.Text(), nullable=True))
    op.add_column("job", sa.Column("retried_by", sa.Text(), nullable=True))
    retried = sa.text("retry_of IS NOT NULL")
    op.create_index(
        "job_by_parent", "job", ["retry_of"], sqlite_where=retried, postgresql_where=retried
    )
    op.add_column("part", sa.Column("failures", sa.LargeBinary(), nullable=True))
    op.create_index("part_by_sequence", "part", ["job_id", "sequence"])
    op.create_table(
        "retry",
        sa.Column("job_id", sa.Text(), sa.ForeignKey("job.id"), nullable=False),
        sa.Column("kinds", sa.Text(), nullable=False),
        sa.Column("lines", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("job_id"),
    )
