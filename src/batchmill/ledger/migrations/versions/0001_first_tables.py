"""The first tables."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _keys()
    _files()
    _job()
    _job_indexes()
    _inputs()
    _shard()
    _results()
    _fleet()
    op.execute("INSERT INTO meta (name, value) VALUES ('wall', 0)")
    op.execute("INSERT INTO tenant (id, created_at) VALUES ('default', 0)")
    op.execute("INSERT INTO shard (job_id, kind, n) VALUES ('', 'sweep', 0)")


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, _NUMBER, nullable=False, server_default="0")


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean, nullable=False, server_default=sa.false())


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _time(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=False)


def _maybe(name: str, type_: type[sa.types.TypeEngine[Any]]) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=True)


def _partial(name: str, table: str, columns: list[str], only: str) -> None:
    where = sa.text(only)
    op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)


def _keys() -> None:
    op.create_table("meta", _text("name"), _time("value"), sa.PrimaryKeyConstraint("name"))
    op.create_table(
        "secret",
        _text("purpose"),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("purpose"),
    )
    op.create_table("tenant", _text("id"), _time("created_at"), sa.PrimaryKeyConstraint("id"))
    op.create_table(
        "api_key",
        _text("id"),
        _text("tenant"),
        _text("digest"),
        _text("hint"),
        _time("created_at"),
        _maybe("revoked_at", sa.Double),
        sa.ForeignKeyConstraint(
            ["tenant"],
            ["tenant.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("digest"),
    )


def _files() -> None:
    op.create_table(
        "file",
        sa.Column("ordinal", _NUMBER, autoincrement=True, nullable=False),
        _text("id"),
        _text("tenant"),
        _text("filename"),
        _text("purpose"),
        _text("source"),
        _count("size_bytes"),
        _time("created_at"),
        _maybe("lines", sa.BigInteger),
        _maybe("mimetype", sa.Text),
        _maybe("visibility", sa.Text),
        _maybe("signature", sa.Text),
        _maybe("expires_at", sa.Double),
        _maybe("blob", sa.Text),
        _maybe("job_id", sa.Text),
        _maybe("stream", sa.Text),
        _maybe("deleted_at", sa.Double),
        sa.PrimaryKeyConstraint("ordinal"),
        sa.UniqueConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("file_by_age", "file", ["source", "created_at"])
    _partial("file_by_blob", "file", ["blob"], "blob IS NOT NULL")
    _partial("file_by_job", "file", ["job_id"], "job_id IS NOT NULL")
    _partial("file_deleted", "file", ["deleted_at"], "deleted_at IS NOT NULL")
    _partial("file_expiring", "file", ["expires_at"], "expires_at IS NOT NULL")
    op.create_index("file_listed", "file", ["tenant", "created_at", "ordinal"])


def _job() -> None:
    op.create_table(
        "job",
        sa.Column("ordinal", _NUMBER, autoincrement=True, nullable=False),
        _text("id"),
        _text("tenant"),
        _maybe("key_id", sa.Text),
        _text("dialect"),
        _text("endpoint"),
        _text("state"),
        _maybe("ending", sa.Text),
        _time("created_at"),
        _time("deadline"),
        _maybe("model", sa.Text),
        _maybe("agent_id", sa.Text),
        _text("metadata"),
        _text("input_files"),
        _flag("inline"),
        _count("priority"),
        _text("on_invalid"),
        _text("window"),
        _flag("paused"),
        _flag("hidden"),
        _maybe("started_at", sa.Double),
        _maybe("finalizing_at", sa.Double),
        _maybe("cancelling_at", sa.Double),
        _maybe("ended_at", sa.Double),
        _maybe("last_progress_at", sa.Double),
        _count("total"),
        _count("succeeded"),
        _count("failed"),
        _count("input_tokens"),
        _count("output_tokens"),
        _count("cached_tokens"),
        _count("reasoning_tokens"),
        _text("errors"),
        _count("errors_total"),
        _maybe("output_file", sa.Text),
        _maybe("error_file", sa.Text),
        _count("shards_left"),
        _count("sequence"),
        _maybe("stopped_tick", sa.Double),
        _maybe("stopped_boot", sa.Text),
        _maybe("prune_at", sa.Double),
        sa.PrimaryKeyConstraint("ordinal"),
        sa.UniqueConstraint("id"),
        sqlite_autoincrement=True,
    )


def _job_indexes() -> None:
    op.create_index("job_by_state", "job", ["state", "deadline"])
    op.create_index("job_listed", "job", ["tenant", "created_at", "ordinal"])
    _partial("job_to_prune", "job", ["prune_at"], "prune_at IS NOT NULL")


def _inputs() -> None:
    op.create_table(
        "job_input",
        _text("job_id"),
        sa.Column("place", sa.Integer(), nullable=False),
        _text("file_id"),
        _text("filename"),
        _text("blob"),
        _count("size_bytes"),
        _count("lines"),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["job.id"],
        ),
        sa.PrimaryKeyConstraint("job_id", "place"),
    )
    op.create_index("job_input_by_blob", "job_input", ["blob"])
    op.create_index("job_input_by_file", "job_input", ["file_id"])
    op.create_table(
        "job_metadata",
        _text("job_id"),
        _text("key"),
        _text("value"),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["job.id"],
        ),
        sa.PrimaryKeyConstraint("job_id", "key"),
    )


def _shard() -> None:
    op.create_table(
        "shard",
        _text("job_id"),
        _text("kind"),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), server_default="open", nullable=False),
        _maybe("owner", sa.Text),
        _count("epoch"),
        _maybe("lease_until", sa.Double),
        _maybe("lease_boot", sa.Text),
        _flag("settling"),
        _flag("committed"),
        _maybe("run_after", sa.Double),
        _maybe("run_boot", sa.Text),
        _count("strikes"),
        _maybe("alone", sa.Integer),
        _flag("alone_in_flight"),
        _count("alone_deaths"),
        _count("input"),
        _count("first_line"),
        _count("lines"),
        _count("offset"),
        _count("length"),
        _count("first_physical"),
        _maybe("done", sa.LargeBinary),
        _count("succeeded"),
        sa.PrimaryKeyConstraint("job_id", "kind", "n"),
    )
    _partial("shard_chore", "shard", ["kind"], "state = 'open' AND kind <> 'run'")
    _partial("shard_leased", "shard", ["job_id", "kind", "n"], "state = 'leased'")
    _partial("shard_open", "shard", ["job_id", "kind", "n"], "state = 'open' AND kind = 'run'")
    _partial("shard_owned", "shard", ["owner"], "state = 'leased'")


def _results() -> None:
    op.create_table(
        "part",
        _text("job_id"),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("sequence", _NUMBER, autoincrement=False, nullable=False),
        _text("blob"),
        sa.Column("state", sa.Text(), server_default="live", nullable=False),
        _count("size_bytes"),
        sa.Column("entries", sa.LargeBinary(), nullable=False),
        _count("input_tokens"),
        _count("output_tokens"),
        _count("cached_tokens"),
        _count("reasoning_tokens"),
        sa.PrimaryKeyConstraint("job_id", "n", "sequence"),
        sa.UniqueConstraint("blob"),
    )
    _partial("part_spent", "part", ["job_id"], "state = 'spent'")
    op.create_table(
        "segment",
        _text("job_id"),
        _text("stream"),
        sa.Column("n", sa.Integer(), nullable=False),
        _text("blob"),
        _count("size_bytes"),
        _count("lines"),
        sa.PrimaryKeyConstraint("job_id", "stream", "n"),
        sa.UniqueConstraint("blob"),
    )


def _fleet() -> None:
    op.create_table(
        "worker",
        _text("id"),
        _text("incarnation"),
        _text("host"),
        sa.Column("pid", sa.Integer(), nullable=False),
        _time("beat_at"),
        _time("beat_tick"),
        _text("beat_boot"),
        _text("beat"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "engine",
        _text("worker"),
        _text("name"),
        _time("beat_at"),
        _text("status"),
        sa.PrimaryKeyConstraint("worker", "name"),
    )
