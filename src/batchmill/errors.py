"""Every error that some caller decides differently on.

    BatchmillError
    +- UserError         rendered by web/errors.py in both vendors' shapes
    |  +- InvalidInput(field)  InvalidFile(line, code, param)  Unauthorized  Forbidden
    |  +- NotFound  Gone  Conflict(state)  TooLarge  TooMany(retry_after)  Unavailable(retry_after)
    +- LedgerError:      LeaseLost  StateConflict  LedgerUnavailable
    +- BlobError:        BlobMissing  BlobsUnavailable (BlobsRefused)
    +- ConfigError       all problems at once

What can normally happen to a line is data (see `model.py`), never one of these.
"""

from __future__ import annotations

from dataclasses import dataclass


class BatchmillError(Exception):
    """The root; nothing outside this tree leaves a port."""


class UserError(BatchmillError):
    """The caller asked for something that cannot be; says what, and what to do instead."""

    status = 400
    code: str | None = None

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code


class InvalidInput(UserError):
    """A field of a request is missing, has the wrong type or an impossible value.

    `status` is 400 by default; the Mistral dialect raises it with 422.
    """

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, status: int = 400
    ) -> None:
        super().__init__(message, param=param, code=code)
        self.status = status


class InvalidFile(UserError):
    """An uploaded file cannot be batch input; `line` is 1-based where one line is at fault."""

    def __init__(
        self,
        message: str,
        *,
        line: int | None = None,
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message, param=param, code=code)
        self.line = line


class Unauthorized(UserError):
    """No key, or one that is unknown or revoked."""

    status = 401


class Forbidden(UserError):
    """A request that must not be answered here at all: a foreign Origin or Host."""

    status = 403


class NotFound(UserError):
    """No such thing for this tenant; another tenant's things are not found either."""

    status = 404


class Gone(UserError):
    """The thing was there and is no longer kept."""

    status = 410


class Conflict(UserError):
    """The thing is in a state in which this cannot be done; `state` names it."""

    status = 409

    def __init__(
        self, message: str, *, state: str, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message, param=param, code=code)
        self.state = state


class TooLarge(UserError):
    """The body or file is over a limit that the message names."""

    status = 413


class TooMany(UserError):
    """A quota is used up; `retry_after` is in seconds."""

    status = 429

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(UserError):
    """Nothing wrong with the request, but it cannot be made durable now; nothing was kept."""

    status = 503

    def __init__(self, message: str, *, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class LedgerError(BatchmillError):
    """Something about the ledger's state or reachability."""


class LeaseLost(LedgerError):
    """The epoch or owner differs: throw the work away and touch nothing."""


class StateConflict(LedgerError):
    """A compare-and-swap found another state than the one that was seen."""


class LedgerUnavailable(LedgerError):
    """The database cannot be reached or written now; trying again later is right."""


class BlobError(BatchmillError):
    """Something about an object in the blob store; `name` says which."""

    def __init__(self, message: str, *, name: str = "") -> None:
        super().__init__(message)
        self.name = name


class BlobMissing(BlobError):
    """The ledger names this blob and the store does not have it, or not all of it."""


class BlobsUnavailable(BlobError):
    """The store cannot be read or written now (full, away, read-only); try again later."""


class BlobsRefused(BlobsUnavailable):
    """The store answers and refuses us (no such bucket, wrong credentials): it goes on once an
    operator has acted, and nothing can begin before."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One bad setting: which field, what it was, where it came from, what is expected."""

    field: str
    message: str
    source: str = ""


class ConfigError(BatchmillError):
    """The settings cannot work; carries every problem that was found, not only the first."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{p.field}: {p.message}" for p in problems))
