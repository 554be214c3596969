"""One attempt at an engine: what is sent, the replies it may bring, and the way there.

What can normally happen is a value: a `Transport` never raises for what an engine does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from msgspec import Struct

from batchmill.usage import NO_USAGE, Usage


class Call(Struct, frozen=True, gc=False):
    """One attempt: what is sent. `body` is JSON bytes as they came, the model aside. `fresh`: on a
    connection that nothing was sent on before, so that its loss says something of this call."""

    path: str
    body: bytes
    timeout_seconds: float
    fresh: bool = False


class Answered(Struct, frozen=True, gc=False):
    """2xx with one valid JSON value: `body` as ASCII without line breaks.

    `held_bytes` of the worker's byte budget stay taken, of this and of every other reply that has
    them; whoever gets the reply releases them.
    """

    status: int
    body: bytes
    request_id: str | None = None
    usage: Usage = NO_USAGE
    held_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """Any other complete HTTP answer but 429 and 503; `body` is one JSON value in ASCII: the
    engine's own, or a JSON string of its text."""

    status: int
    body: bytes
    message: str
    param: str | None = None
    code: str | None = None
    request_id: str | None = None
    held_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Overloaded:
    """429 or 503. `retry_after_seconds` where the engine said so."""

    status: int
    body: bytes
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Nothing was sent: no name, no connection, no TLS."""

    message: str


@dataclass(frozen=True, slots=True)
class Broken:
    """Sent, and no complete valid answer came back.

    `kind`: "timeout", "reset" (connection lost), "stale" (lost before a byte came, on a connection
    that had been used before: the engine may never have read the call), "not_json" (2xx that is no
    JSON), "too_large" (a reply over the limit).
    """

    kind: str
    message: str
    status: int | None = None
    body: bytes | None = None
    held_bytes: int = 0


class Load(Struct, frozen=True, gc=False):
    """What an engine says of itself, all its callers together: how many calls it works on, how
    many wait in it, and how much of its memory for them is used, from 0 to 1."""

    running: float
    waiting: float
    usage: float = 0.0


Reply = Answered | Refused | Overloaded | Unreachable | Broken


def held_bytes(reply: Reply) -> int:
    """How many bytes of the worker's byte budget a reply holds."""
    return reply.held_bytes if isinstance(reply, Answered | Refused | Broken) else 0


class Flight(Protocol):
    """A call that is out."""

    def abort(self) -> None:
        """End it, at the engine too; its reply never lands. Nothing happens once it has."""


class Transport(Protocol):
    """The way to one engine."""

    def send(self, call: Call, landed: Callable[[Reply], None]) -> Flight:
        """Send once and never again. `landed` is called once with what came back, after this
        has returned; every failure is a value."""

    async def models(self) -> tuple[str, ...]:
        """The models the engine serves now. Raises `EngineDown` with a reason for people,
        `EngineSilent` where it was reached and has not answered in time."""

    async def load(self) -> Load | None:
        """What the engine's own metrics say now; None where it has none that can be read."""

    async def close(self) -> None:
        """Let go of the connections, those of calls that are out as soon as they land; whoever
        opened it calls it."""


class EngineDown(Exception):
    """The engine does not answer or refuses our key; the message says which, no secrets."""


class EngineSilent(EngineDown):
    """The engine was reached and did not answer in time: it may be busy."""
