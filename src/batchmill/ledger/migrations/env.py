"""Alembic's way in: runs the migrations on the connection that `upgrade.py` hands over."""

from alembic import context

from batchmill.ledger.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
