"""Opening a database: which kind it is, whether it may be used at all, and its newest tables."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from batchmill.clock import jitter
from batchmill.errors import ConfigError, LedgerUnavailable, Problem
from batchmill.ledger.mounts import network_type
from batchmill.ledger.sqlite import Sqlite
from batchmill.ledger.store import Database
from batchmill.ledger.upgrade import upgrade

FIELD = "database_url"
PATIENCE = 15
"""How often a locked database is tried again before it is given up: for about a minute."""
_MOUNTS = Path("/proc/mounts")
_SQLITE_URL = "sqlite:///"


async def open_database(database: str | Path) -> Database:
    """Open it, made or brought up to date if needed.

    Raises `ConfigError` where it can never work and `LedgerUnavailable` where it cannot now.
    """
    path = await asyncio.to_thread(_path, database)
    await asyncio.to_thread(_keep_private, path)
    opened = Sqlite(path)
    try:
        await _upgrade(opened, str(path))
    except (DBAPIError, sqlite3.Error, OSError) as error:
        await opened.close()
        raise LedgerUnavailable(opened.describe(error)) from error
    except BaseException:
        await opened.close()
        raise
    return opened


async def _upgrade(opened: Sqlite, where: str) -> None:
    """Bring the tables up to date; waits while another process is doing it."""
    for _ in range(PATIENCE):
        try:
            return await upgrade(opened, where)
        except DBAPIError as error:
            if not opened.is_busy(error):
                raise
        await asyncio.sleep(jitter())
    return await upgrade(opened, where)


def _path(database: str | Path) -> Path:
    """Where the SQLite file is or will be; refuses what is none and where none may be."""
    text = str(database).removeprefix(_SQLITE_URL)
    if "://" in text:
        scheme = text.partition("://")[0]
        raise _refused(text, f"{scheme} is not supported; give a path or a sqlite:/// URL")
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
