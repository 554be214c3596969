"""A client for Batchmill's own extras; knows nothing of the server but its routes.

sync.py, aio.py            the two classes, thin
jobs, submitting, content, reading, mapping   every operation, once, as steps (`steps.py`)
blocking.py, awaiting.py   do the steps, over httpx
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchmill.client.address import BadAddress
    from batchmill.client.aio import AsyncClient
    from batchmill.client.errors import (
        ClientError,
        Conflict,
        Gone,
        JobFailed,
        NotBatchmill,
        NotFound,
        Refused,
        StillRunning,
        Unauthorized,
        Unreachable,
        Unreadable,
    )
    from batchmill.client.mapping import Answer
    from batchmill.client.objects import ErrorKind, File, Job, JobError, Model, Progress, Result
    from batchmill.client.sync import Client

__all__ = [
    "Answer",
    "AsyncClient",
    "BadAddress",
    "Client",
    "ClientError",
    "Conflict",
    "ErrorKind",
    "File",
    "Gone",
    "Job",
    "JobError",
    "JobFailed",
    "Model",
    "NotBatchmill",
    "NotFound",
    "Progress",
    "Refused",
    "Result",
    "StillRunning",
    "Unauthorized",
    "Unreachable",
    "Unreadable",
]

_HOMES = {
    "Answer": "mapping",
    "AsyncClient": "aio",
    "BadAddress": "address",
    "Client": "sync",
    "ClientError": "errors",
    "Conflict": "errors",
    "ErrorKind": "objects",
    "File": "objects",
    "Gone": "errors",
    "Job": "objects",
    "JobError": "objects",
    "JobFailed": "errors",
    "Model": "objects",
    "NotBatchmill": "errors",
    "NotFound": "errors",
    "Progress": "objects",
    "Refused": "errors",
    "Result": "objects",
    "StillRunning": "errors",
    "Unauthorized": "errors",
    "Unreachable": "errors",
    "Unreadable": "errors",
}


def __getattr__(name: str) -> Any:
    """Names as they are wanted: who checks a file needs no HTTP."""
    if name not in _HOMES:
        raise AttributeError(f"module 'batchmill.client' has no attribute {name!r}")
    return getattr(import_module(f"batchmill.client.{_HOMES[name]}"), name)
