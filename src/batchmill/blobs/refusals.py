"""What an object store's errors mean to us. Pure.

Their own texts hold addresses, and what S3 answers to a bad key holds the key: only the status and
the store's code for the fault are shown.
"""

from __future__ import annotations

import re

from batchmill.errors import BlobError, BlobMissing, BlobsRefused, BlobsUnavailable

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_NO_BUCKET = frozenset({"NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted"})
_NO_BLOB = frozenset({"NoSuchKey", "NoSuchVersion", "BlobNotFound"})
"""What S3 and GCS, and Azure, call a blob that is not there. A 404 without one of these is not the
store's own: a gateway says it while it has no store behind it."""
_NO_KEYS = ("169.254.169.254", "metadata.google.internal", "CredentialsNotFound", "MissingCred")
"""Where a store's client looks last for credentials; it gets there when none were given."""


def is_beyond_end(error: Exception) -> bool:
    """Whether a run was asked for that begins where the blob has ended."""
    return _status(_said(error)) == 416


def judged(error: Exception, name: str, *, reading: bool = False) -> BlobError:
    """The error of ours that says what happened to that blob, and what to do."""
    said = _said(error)
    status, code = _status(said), _code(said)
    what = f"Blob {name}" if name else "The object store"
    if any(word in said for word in _NO_KEYS):
        return BlobsRefused(
            "No credentials for the object store were found; set the variables of its vendor, "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for instance.",
            name=name,
        )
    if code in _NO_BUCKET:
        return BlobsRefused(
            f"{what} has no place: the bucket does not exist ({code}); make it, or correct "
            "storage_url.",
            name=name,
        )
    if status == 404 and code in _NO_BLOB and reading:
        return BlobMissing(f"Blob {name} is not in the store.", name=name)
    if status in {401, 403}:
        return BlobsRefused(
            f"{what} is refused to us ({code or f'HTTP {status}'}); see that the credentials are "
            "right and may read, write, list and delete there.",
            name=name,
        )
    if status in {412, 416} and reading:
        return damaged(name)
    return BlobsUnavailable(
        f"{what} cannot be used now ({_reason(error, status, code)}); see that the object store "
        "runs and can be reached.",
        name=name,
    )


def damaged(name: str) -> BlobMissing:
    """A blob that is not what was written."""
    return BlobMissing(f"Blob {name} is shorter than what was written; it is damaged.", name=name)


def _reason(error: Exception, status: int | None, code: str | None) -> str:
    if status is not None:
        return f"HTTP {status} {code}" if code else f"HTTP {status}"
    return "no answer in time" if isinstance(error, TimeoutError) else "no answer"


def _said(error: Exception) -> str:
    """What it says, without the debugger's view of the same."""
    return str(error).partition("\n\nDebug source:")[0]


def _status(said: str) -> int | None:
    found = _STATUS.search(said)
    return int(found[1]) if found else None


def _code(said: str) -> str | None:
    found = _CODE.search(said)
    return found[1] if found else None
