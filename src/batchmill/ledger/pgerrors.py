"""What an error of PostgreSQL or its driver means: whether to try again, and what to tell people.

No sentence holds a password, a statement or a value.
"""

from __future__ import annotations

import re
import socket
from urllib.parse import urlsplit

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

_UNREADABLE = "cannot be read; write special characters of its password as %XX"
_HOST = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(:\d+)?")

_BUSY = ("08", "40", "53300", "55P03", "57P01", "57P02", "57P03", "57P05", "25006", "25P03")
"""Connections, conflicts, too many of either, restarts and failovers: these pass by themselves."""

_OF_POOLER = "08P01"
"""How PgBouncer names all its errors, also those that pass by themselves."""
_NOT_SPOKEN = "unsupported startup parameter"
"""What it says of a parameter in database_url, for as long as it stands there."""

_ENDED = ("08", "57P01", "57P02")

_WHAT_TO_DO = (
    ("28", "refuses this user or password; check database_url"),
    ("3D000", "does not exist; create it, or check database_url"),
    ("42501", "does not allow this user to do that; make it the owner of its tables"),
    ("42P01", "lacks a table; run: batchmill db upgrade"),
    ("42703", "lacks a column; run: batchmill db upgrade"),
    ("53300", "has no connection left; raise its max_connections, or run fewer processes"),
    ("53100", "is on a disk that is full; free some space"),
    ("53200", "is out of memory; give its server more"),
    ("57P", "is being stopped or started; try again soon"),
    ("57014", "took too long for this; try again when there is less load"),
    ("25006", "takes no writes now; name its primary in database_url"),
    ("25P03", "ended a transaction that stood still; try again"),
    ("40", "is too busy with other work on the same rows; try again"),
    ("55P03", "is too busy with other work on the same rows; try again"),
    ("08", "cannot be reached; check that its server runs, and the network"),
)


def sqlstate(error: BaseException) -> str:
    """The five characters by which PostgreSQL names an error; empty where it is another's."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return str(getattr(cause, "sqlstate", None) or "")


def is_busy(error: BaseException) -> bool:
    """Whether it passes by itself within seconds. What was silent for its whole time does not."""
    if isinstance(error, TimeoutError | PoolTimeoutError):
        return False
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    if _NOT_SPOKEN in str(_cause(error)):
        return False
    state = sqlstate(error)
    return (
        state.startswith(_BUSY) if state else isinstance(_cause(error), OSError | ConnectionError)
    )


def leaves_doubt(error: BaseException) -> bool:
    """Whether the transaction may have been committed: its connection ended before an answer. An
    answer of the server's that is an error says that it was not."""
    state = sqlstate(error)
    return not state or state.startswith(_ENDED)


def describe(error: BaseException, shown: str) -> str:
    """What is wrong with the database, and what to do."""
    state, cause = sqlstate(error), _cause(error)
    for prefix, advice in _WHAT_TO_DO:
        if state.startswith(prefix) and state != _OF_POOLER:
            return f"The database {shown} {advice}."
    if isinstance(error, PoolTimeoutError):
        return f"All connections to the database {shown} are in use; try again with less load."
    if isinstance(cause, TimeoutError):
        return f"The database {shown} does not answer; check its server and the network."
    if isinstance(cause, socket.gaierror):
        return f"The host of the database {shown} is not known; check database_url."
    if isinstance(cause, OSError) or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    ):
        return (
            f"The database {shown} cannot be reached; check that its server runs, and the network."
        )
    said = str(cause).partition("\n")[0] or type(cause).__name__
    return f"The database {shown} did not do what was asked: {said}."


def shown_url(url: str) -> str:
    """The URL without its user, password and parameters."""
    scheme, _, rest = url.partition("://")
    place = rest.rpartition("@")[2].partition("?")[0].partition("#")[0]
    return f"{scheme}://{place}"


def fault_of(url: str) -> str | None:
    """Why a PostgreSQL URL cannot be used, if it cannot; says nothing of what stands in it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return _UNREADABLE
    hosts = parts.netloc.rpartition("@")[2].split(",")
    if not all(_HOST.fullmatch(host) for host in hosts) or parts.fragment:
        return _UNREADABLE
    if not parts.path.strip("/"):
        return "names no database; write postgresql://user:password@host:5432/batchmill"
    return None


def _cause(error: BaseException) -> BaseException:
    """The error beneath SQLAlchemy's."""
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
