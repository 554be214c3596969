"""How a command ends: its exit code, and the error that ends it early."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from batchmill.client import Job

DONE: Final = 0
FAILED: Final = 1
"""Something is wrong, and the last line on standard error says what."""
USAGE: Final = 2
"""It was asked for what cannot be: a flag, a setting, an address."""
UNANSWERED: Final = 3
"""The job has ended, and not every line was answered."""
INTERRUPTED: Final = 130


class Failure(Exception):
    """Ends a command with one line on standard error, which names the next step."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


def code_of(job: Job) -> int:
    """What whoever waited for a job's end leaves with."""
    if job.is_whole:
        return DONE
    has_results = job.output_file is not None or job.error_file is not None
    return UNANSWERED if has_results else FAILED
