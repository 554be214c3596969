"""The tables, in the words of the design. What is read from them becomes nouns in `rows.py`.

Times ending in `_at` are wall times. `tick` columns count seconds of the lease clock and mean
something only together with the `boot` column beside them (see `store.Moment`).
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

metadata = sa.MetaData()

_Counter = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, _Counter, nullable=False, server_default="0")


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean, nullable=False, server_default=sa.false())


def _text(name: str, *, key: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, primary_key=key)


def _time(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=False)


def _partial(name: str, *columns: str, only: str) -> sa.Index:
    """An index of the rows that a condition holds for, on either database."""
    where = sa.text(only)
    return sa.Index(name, *columns, sqlite_where=where, postgresql_where=where)


def _maybe(name: str, type_: type[sa.types.TypeEngine[Any]]) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=True)


meta = sa.Table(
    "meta",
    metadata,
    _text("name", key=True),
    _time("value"),
)
"""`wall`: the highest wall time any process has seen; `scanned`: the last look at all blobs."""

secret = sa.Table(
    "secret",
    metadata,
    _text("purpose", key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
)

tenant = sa.Table("tenant", metadata, _text("id", key=True), _time("created_at"))

api_key = sa.Table(
    "api_key",
    metadata,
    _text("id", key=True),
    sa.Column("tenant", sa.Text, sa.ForeignKey("tenant.id"), nullable=False),
    sa.Column("digest", sa.Text, nullable=False, unique=True),
    _text("hint"),
    _time("created_at"),
    _maybe("revoked_at", sa.Double),
)

file = sa.Table(
    "file",
    metadata,
    sa.Column("ordinal", _Counter, primary_key=True, autoincrement=True),
    sa.Column("id", sa.Text, nullable=False, unique=True),
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
    sa.Index("file_listed", "tenant", "created_at", "ordinal"),
    sa.Index("file_by_age", "source", "created_at"),
    _partial("file_by_blob", "blob", only="blob IS NOT NULL"),
    _partial("file_by_job", "job_id", only="job_id IS NOT NULL"),
    _partial("file_expiring", "expires_at", only="expires_at IS NOT NULL"),
    _partial("file_deleted", "deleted_at", only="deleted_at IS NOT NULL"),
    sqlite_autoincrement=True,
)

job = sa.Table(
    "job",
    metadata,
    sa.Column("ordinal", _Counter, primary_key=True, autoincrement=True),
    sa.Column("id", sa.Text, nullable=False, unique=True),
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
    _maybe("queued_at", sa.Double),
    _maybe("keep_results_seconds", sa.BigInteger),
    _maybe("webhook_url", sa.Text),
    sa.Column("failures", sa.Text, nullable=False, server_default="{}"),
    _maybe("retry_of", sa.Text),
    _maybe("retried_by", sa.Text),
    _flag("let_in"),
    _flag("dedupe"),
    _count("deduplicated"),
    sa.Index("job_listed", "tenant", "created_at", "ordinal"),
    sa.Index("job_by_state", "state", "deadline"),
    _partial("job_to_prune", "prune_at", only="prune_at IS NOT NULL"),
    _partial("job_by_parent", "retry_of", only="retry_of IS NOT NULL"),
    sqlite_autoincrement=True,
)
"""`sequence` numbers the job's parts as they are published. `stopped_*` is when it stopped.
`let_in`: its open lines count against its tenant's quota, while it is queued or running.
`failures` is a `FailureTally`; `retry_of` is a retry's parent, `retried_by` the newest child."""

retry = sa.Table(
    "retry",
    metadata,
    sa.Column("job_id", sa.Text, sa.ForeignKey("job.id"), primary_key=True),
    _text("kinds"),
    _maybe("lines", sa.LargeBinary),
)
"""What a child job sends again: lines that failed in one of these ways, or lines by number."""

job_input = sa.Table(
    "job_input",
    metadata,
    sa.Column("job_id", sa.Text, sa.ForeignKey("job.id"), primary_key=True),
    sa.Column("place", sa.Integer, primary_key=True),
    _text("file_id"),
    _text("filename"),
    _text("blob"),
    _count("size_bytes"),
    _count("lines"),
    sa.Index("job_input_by_file", "file_id"),
    sa.Index("job_input_by_blob", "blob"),
)

job_metadata = sa.Table(
    "job_metadata",
    metadata,
    sa.Column("job_id", sa.Text, sa.ForeignKey("job.id"), primary_key=True),
    _text("key", key=True),
    _text("value"),
)

shard = sa.Table(
    "shard",
    metadata,
    _text("job_id", key=True),
    _text("kind", key=True),
    sa.Column("n", sa.Integer, primary_key=True),
    sa.Column("state", sa.Text, nullable=False, server_default="open"),
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
    _maybe("wanted", sa.Text),
    _partial("shard_open", "job_id", "kind", "n", only="state = 'open' AND kind = 'run'"),
    _partial("shard_chore", "kind", only="state = 'open' AND kind <> 'run' AND kind <> 'deliver'"),
    _partial(
        "shard_deliver",
        *("run_boot", "run_after", "job_id", "n"),
        only="state = 'open' AND kind = 'deliver'",
    ),
    _partial("shard_leased", "job_id", "kind", "n", only="state = 'leased'"),
    _partial("shard_owned", "owner", only="state = 'leased'"),
    _partial("shard_wanted", "job_id", "wanted", only="state = 'open' AND wanted IS NOT NULL"),
)
"""Every leased row, whatever its kind. `state`: open, leased, closed, or kept (a child's shard that
is not to be claimed yet). `settling`: granted when its job had stopped already.
`committed`: something was published under the present grant. `done`: bitmap of the lines that
have an outcome; `succeeded`: how many of those stand in the output. `wanted`: the
model of lines that are left, where whoever let go of it could serve none of them."""

IS_OPEN = shard.c.state == sa.literal_column("'open'")
IS_LEASED = shard.c.state == sa.literal_column("'leased'")
IS_RUN = shard.c.kind == sa.literal_column("'run'")
IS_DELIVER = shard.c.kind == sa.literal_column("'deliver'")
IS_CHORE = sa.and_(
    shard.c.kind != sa.literal_column("'run'"), shard.c.kind != sa.literal_column("'deliver'")
)
"""Spelled without parameters, so that the planner may use the partial indexes."""

part = sa.Table(
    "part",
    metadata,
    _text("job_id", key=True),
    sa.Column("n", sa.Integer, primary_key=True),
    sa.Column("sequence", _Counter, primary_key=True, autoincrement=False),
    sa.Column("blob", sa.Text, nullable=False, unique=True),
    sa.Column("state", sa.Text, nullable=False, server_default="live"),
    _count("size_bytes"),
    sa.Column("entries", sa.LargeBinary, nullable=False),
    _count("input_tokens"),
    _count("output_tokens"),
    _count("cached_tokens"),
    _count("reasoning_tokens"),
    _maybe("failures", sa.LargeBinary),
    sa.Index("part_by_sequence", "job_id", "sequence"),
    _partial("part_spent", "job_id", only="state = 'spent'"),
)
"""`state`: live (its blob is read), spent (its shard is closed), dropped (its blob is gone).
`failures`: its failed lines by code, none where all succeeded."""

IS_SPENT = part.c.state == sa.literal_column("'spent'")

segment = sa.Table(
    "segment",
    metadata,
    _text("job_id", key=True),
    _text("stream", key=True),
    sa.Column("n", sa.Integer, primary_key=True),
    sa.Column("blob", sa.Text, nullable=False, unique=True),
    _count("size_bytes"),
    _count("lines"),
)

worker = sa.Table(
    "worker",
    metadata,
    _text("id", key=True),
    _text("incarnation"),
    _text("host"),
    sa.Column("pid", sa.Integer, nullable=False),
    _time("beat_at"),
    _time("beat_tick"),
    _text("beat_boot"),
    _text("beat"),
)

engine = sa.Table(
    "engine",
    metadata,
    _text("worker", key=True),
    _text("name", key=True),
    _time("beat_at"),
    _text("status"),
)
"""An engine as each worker last saw it."""

idempotency = sa.Table(
    "idempotency",
    metadata,
    sa.Column("ordinal", _Counter, primary_key=True, autoincrement=True),
    _text("tenant"),
    _text("route"),
    _maybe("key", sa.Text),
    _text("body"),
    _text("api_key"),
    _text("job_id"),
    _time("created_at"),
    sa.UniqueConstraint("tenant", "route", "key"),
    sa.Index("idempotency_by_body", "body", "api_key"),
    sa.Index("idempotency_by_age", "created_at"),
)
"""Creates of the last day, by which one that is sent again is known. `key` and `body` are digests;
`api_key` is empty where none was needed."""

assembly = sa.Table(
    "assembly",
    metadata,
    _text("id", key=True),
    _text("tenant"),
    _text("filename"),
    _text("purpose"),
    _maybe("mimetype", sa.Text),
    _count("size_bytes"),
    _maybe("lasts_seconds", sa.BigInteger),
    sa.Column("state", sa.Text, nullable=False, server_default="pending"),
    _time("created_at"),
    _time("expires_at"),
    _maybe("file_id", sa.Text),
    sa.Column("piece_ids", sa.Text, nullable=False, server_default="[]"),
    _count("pieces"),
    _count("received_bytes"),
    _partial("assembly_pending", "expires_at", only="state = 'pending'"),
    sa.Index("assembly_by_age", "created_at"),
)
"""A file that is sent in pieces. `pieces` and `received_bytes` count all that came."""

assembly_piece = sa.Table(
    "assembly_piece",
    metadata,
    _text("id", key=True),
    _text("assembly_id"),
    sa.Column("blob", sa.Text, nullable=False, unique=True),
    _count("size_bytes"),
    _time("created_at"),
    sa.Index("assembly_piece_of", "assembly_id"),
)
delivery = sa.Table(
    "delivery",
    metadata,
    sa.Column("ordinal", _Counter, primary_key=True, autoincrement=True),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    _text("event_id"),
    _text("job_id"),
    sa.Column("n", sa.Integer, nullable=False),
    _text("tenant"),
    _text("url"),
    _text("receiver"),
    _flag("configured"),
    _text("ending"),
    sa.Column("state", sa.Text, nullable=False, server_default="pending"),
    _time("created_at"),
    _time("since"),
    _count("attempts"),
    _maybe("last_at", sa.Double),
    _maybe("last_status", sa.Integer),
    _maybe("last_error", sa.Text),
    _maybe("next_at", sa.Double),
    _maybe("ended_at", sa.Double),
    sa.UniqueConstraint("job_id", "n"),
    sa.Index("delivery_listed", "tenant", "ordinal"),
    sa.Index("delivery_by_state", "state"),
    _partial("delivery_ended", "ended_at", only="ended_at IS NOT NULL"),
    sqlite_autoincrement=True,
)
"""A job's event on its way to one receiver. Its lease is the `deliver` row of the same `job_id`
and `n` in `shard`. `receiver` is the host and port of its URL, called only so often at once."""

grant = sa.Table(
    "grant",
    metadata,
    _text("owner", key=True),
    _count("version"),
    _text("lots"),
    _time("lease_until"),
    _text("lease_boot"),
)
"""What each worker holds of the limits on engines, as `dealing.Lot`s in JSON. The row without an
owner is the deck, which is locked while a share grows (`grants.py`)."""
