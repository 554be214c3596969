"""What a client wants done, as values: the one implementation of every request.

An operation is a generator. It yields what it wants (`Request`, `Open`, `Read`, `Close`, `Pause`,
`Give`) and is sent what came of it; `blocking.py` and `awaiting.py` do the wanting, and nothing
else. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to be sent as a form's; read from its beginning each time."""

    name: str
    content: BinaryIO
    purpose: str = "batch"


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `seconds`: how long the server may be silent."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    upload: Upload | None = None
    seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    status: int
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Lost:
    """No answer, or not all of it: the server may have acted on what was sent.

    `is_known`: it has answered before, so that it is away rather than nowhere. `was_sent`: false
    where nothing was sent, so that nothing can have been done.
    """

    why: str
    is_known: bool = True
    was_sent: bool = True


@dataclass(frozen=True, slots=True)
class Open:
    """Ask for an answer that is read piece by piece; brings a `Stream`, `Reply` (a refusal) or
    `Lost`."""

    request: Request


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer that is being read, and how it began: 206 is a part, which its headers name."""

    number: int
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Read:
    """The next piece of a stream: bytes, None at its end, or `Lost`."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class Close:
    """A stream is wanted no longer."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Clock:
    """What a clock that never jumps says, in seconds."""


@dataclass(frozen=True, slots=True)
class Give:
    """A value for the caller, who may stop listening after any."""

    value: Any


Step = Request | Open | Read | Close | Pause | Clock | Give
Steps = Generator[Step, Any, T]
"""An operation that ends with a `T`."""
