"""Opening a database: which kind it is, whether it may be used at all, and its newest tables."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from batchmill.clock import jitter
from batchmill.errors import ConfigError, LedgerUnavailable, Problem
from batchmill.ledger.mounts import network_type
from batchmill.ledger.pgerrors import fault_of, shown_url
from batchmill.ledger.sqlite import Sqlite
from batchmill.ledger.store import Database, patiently
from batchmill.ledger.upgrade import bring_up_to_date, migrating, require_newest, upgrade, versions

if TYPE_CHECKING:
    from batchmill.ledger.postgres import Postgres

FIELD = "database_url"
PATIENCE = 15
"""How often a locked database is tried again before it is given up: for about a minute."""
_MOUNTS = Path("/proc/mounts")
_SQLITE_URL = "sqlite:///"
_POSTGRES_URLS = ("postgresql://", "postgres://")


async def open_database(database: str | Path) -> Database:
    """Open it. SQLite is made or brought up to date if needed; PostgreSQL must be up to date.

    Raises `ConfigError` where it can never work and `LedgerUnavailable` where it cannot now.
    """
    if is_postgres(database):
        return await _open_postgres(str(database))
    path = await asyncio.to_thread(_path, database)
    await asyncio.to_thread(_keep_private, path)
    opened = Sqlite(path)
    try:
        await _upgrade(opened, str(path))
    except opened.errors as error:
        await opened.close()
        raise LedgerUnavailable(opened.describe(error)) from error
    except BaseException:
        await opened.close()
        raise
    return opened


async def upgrade_database(database: str | Path) -> str:
    """Bring a database to the newest version; that version. Raises as `open_database` does."""
    if not is_postgres(database):
        await (await open_database(database)).close()
        return versions()[-1]
    opened = _postgres(str(database))
    try:
        async with migrating():
            await patiently(
                opened, lambda _: opened.migrate(lambda c: bring_up_to_date(c, opened.shown))
            )
    finally:
        await opened.close()
    return versions()[-1]


def is_postgres(database: str | Path) -> bool:
    """Whether it is the URL of a PostgreSQL database."""
    return str(database).startswith(_POSTGRES_URLS)


async def _open_postgres(url: str) -> Database:
    opened = _postgres(url)
    try:
        await patiently(
            opened, lambda _: opened.run(lambda c: require_newest(c, opened.shown), write=False)
        )
    except BaseException:
        await opened.close()
        raise
    return opened


def _postgres(url: str) -> Postgres:
    """The database of that URL, not connected to yet."""
    shown = shown_url(url)
    if (fault := fault_of(url)) is not None:
        raise _refused(shown, fault)
    try:
        from batchmill.ledger.postgres import Postgres  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        message = "PostgreSQL needs an extra: pip install 'batchmill[postgres]'"
        raise _refused(shown, message) from error
    return Postgres(url, shown)


async def _upgrade(opened: Sqlite, where: str) -> None:
    """Bring the tables up to date; waits while another process is doing it."""
    for _ in range(PATIENCE):
        try:
            return await upgrade(opened, where)
        except opened.errors as error:
            if not opened.is_busy(error):
                raise
        await asyncio.sleep(jitter())
    return await upgrade(opened, where)


def _path(database: str | Path) -> Path:
    """Where the SQLite file is or will be; refuses what is none and where none may be."""
    text = str(database).removeprefix(_SQLITE_URL)
    if "://" in text:
        scheme = text.partition("://")[0]
        message = f"{scheme} is not supported; give a postgresql:// or sqlite:/// URL"
        raise _refused(shown_url(text), message)
    path = Path(text).absolute().resolve()
    if not path.parent.is_dir():
        raise _refused(text, f"{path.parent} is not a directory; make it or give another path")
    if path.is_dir():
        raise _refused(text, f"{path} is a directory; give the path of a file in it")
    mounts = _MOUNTS.read_text(errors="replace") if _MOUNTS.exists() else ""
    kind = network_type(path, mounts)
    if kind is not None:
        message = f"{path} is on a network file system ({kind}), where SQLite loses data; "
        raise _refused(text, message + "give a path on a local disk")
    return path


def _keep_private(path: Path) -> None:
    """A new database is its owner's alone: it holds secrets. SQLite says what prevents it."""
    with contextlib.suppress(OSError):
        path.touch(mode=0o600, exist_ok=False)


def _refused(source: str, message: str) -> ConfigError:
    return ConfigError([Problem(FIELD, message, source)])
