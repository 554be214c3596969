"""What can go wrong for a client of a server.

    ClientError
    +- Unreachable            nothing answers at the address, or what stands before it
    |  +- NotBatchmill        what answers is not Batchmill
    +- Refused                the server answered and will not: status, code, param
    |  +- Unauthorized  NotFound  Conflict  Gone
    +- StillRunning           waited long enough; the job goes on without us
    +- JobFailed              the job ended without results
    +- Unreadable             what is to be sent or joined cannot be read as it should be

Each message names the thing and the next step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from batchmill.client.objects import Job


class ClientError(Exception):
    """The root of what this package raises."""


class Unreachable(ClientError):
    """No answer, again and again, or one that is not Batchmill's."""

    @property
    def may_pass(self) -> bool:
        """Whether the same request may be answered in a moment."""
        return True


class NotBatchmill(Unreachable):
    """An answer that no Batchmill gives, and that will be the same the next time."""

    @property
    def may_pass(self) -> bool:
        return False


class Refused(ClientError):
    """The server's refusal in its own words."""

    def __init__(
        self, message: str, status: int, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param

    @property
    def may_pass(self) -> bool:
        """Whether it is the server's own trouble, which may be over in a moment."""
        return self.status >= 500 or self.status == 429


class Unauthorized(Refused):
    """The key is missing, unknown or revoked."""


class NotFound(Refused):
    """There is no such thing for this key."""


class Conflict(Refused):
    """It is in a state in which this cannot be done."""


class Gone(Refused):
    """It was there and is no longer kept."""


class StillRunning(ClientError):
    """Waiting ended before the job did. It goes on: `job` is how it stood."""

    def __init__(self, job: Job) -> None:
        super().__init__(
            f"Job {job.id} is still {job.state}; it goes on without you. "
            f"Get it again with client.get({job.id!r})."
        )
        self.job = job


class JobFailed(ClientError):
    """The job ended without any results; `job.errors` says why."""

    def __init__(self, job: Job) -> None:
        reasons = "; ".join(each.message for each in job.errors[:3]) or f"it {job.state}"
        super().__init__(f"Job {job.id} has no results: {reasons}")
        self.job = job


class Unreadable(ClientError):
    """Something of the caller's, or of the server's files, is not as it must be."""


BY_STATUS: Final[dict[int, type[Refused]]] = {
    401: Unauthorized,
    403: Unauthorized,
    404: NotFound,
    409: Conflict,
    410: Gone,
}
