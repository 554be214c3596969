"""Brings a database to the newest version: SQLite by whoever opens it first, PostgreSQL when
`batchmill db upgrade` asks for it.

Migrations are numbered, forward only, and stand in `migrations/versions`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import sqlalchemy as sa

from batchmill.errors import ConfigError, Problem
from batchmill.ledger.store import Database

MIGRATIONS = Path(__file__).parent / "migrations"

_one_at_a_time = threading.Lock()
"""Alembic keeps what it works on in module globals: one migration per process at a time."""


def versions() -> tuple[str, ...]:
    """Every version this release knows, oldest first."""
    return tuple(sorted(path.name[:4] for path in (MIGRATIONS / "versions").glob("[0-9]*.py")))


async def upgrade(database: Database, where: str) -> None:
    """Make the tables what this release needs; nothing happens where they are so already.

    Refuses, with `ConfigError`, a database that a newer release has written.
    """
    if (
        await database.run(lambda found: _known_version(found, where), write=False)
        == versions()[-1]
    ):
        return
    async with migrating():
        await database.run(_bring_up_to_date, write=True)


@asynccontextmanager
async def migrating() -> AsyncIterator[None]:
    """Be the only one in this process that migrates."""
    while not _one_at_a_time.acquire(blocking=False):  # noqa: ASYNC110 - held by another thread
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        _one_at_a_time.release()


def bring_up_to_date(connection: sa.Connection, where: str) -> None:
    """Make the tables what this release needs, within a transaction that nobody else has and
    while `migrating`.

    Refuses, with `ConfigError`, a database that a newer release has written.
    """
    if _known_version(connection, where) != versions()[-1]:
        _migrate(connection)


def require_newest(connection: sa.Connection, where: str) -> None:
    """Refuse, with `ConfigError`, a database whose tables are not what this release needs."""
    found = _known_version(connection, where)
    if found != versions()[-1]:
        state = "holds no ledger yet" if found is None else f"is at database version {found}"
        message = f"{where} {state}, and this Batchmill needs {versions()[-1]}"
        raise ConfigError([Problem("database_url", f"{message}; run: batchmill db upgrade")])


def _bring_up_to_date(connection: sa.Connection) -> None:
    if _read_version(connection) != versions()[-1]:
        _migrate(connection)


def _known_version(connection: sa.Connection, where: str) -> str | None:
    found = _read_version(connection)
    if found is not None and found not in versions():
        message = (
            f"{where} is at database version {found}, and this Batchmill knows versions up to "
            f"{versions()[-1]}; install the newer Batchmill that wrote it, or give another path"
        )
        raise ConfigError([Problem("database_url", message, where)])
    return found


def _read_version(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def _migrate(connection: sa.Connection) -> None:
    from alembic import command  # noqa: PLC0415 - slow to import, and seldom needed
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
