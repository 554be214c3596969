"""What OpenAI's batches need of a job: when it was found good, and how long its results last."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job", sa.Column("queued_at", sa.Double, nullable=True))
    op.add_column("job", sa.Column("keep_results_seconds", sa.BigInteger, nullable=True))
