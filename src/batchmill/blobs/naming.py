"""What a blob may be called, in every store: plain path segments that can lead nowhere else."""

from __future__ import annotations

import re

from batchmill.errors import BlobMissing, BlobsUnavailable
from batchmill.model import BlobName

_NAME = re.compile(r"(?!\.)[\w.-]+(/(?!\.)[\w.-]+)*", re.ASCII)
_LEFTOVER = re.compile(r"((?!\.)[\w.-]+/)*(?!\.)[\w.-]+~[\w-]+", re.ASCII)


def check_new(name: BlobName) -> None:
    """Raise `BlobsUnavailable` for a name that cannot be a blob's."""
    if _NAME.fullmatch(name) is None:
        raise BlobsUnavailable(f"{name!r} cannot be the name of a blob.", name=name)


def check_known(name: BlobName) -> None:
    """Raise `BlobMissing` for a name that neither a blob nor a leftover can have."""
    if _NAME.fullmatch(name) is None and _LEFTOVER.fullmatch(name) is None:
        raise BlobMissing(f"{name!r} cannot be the name of a blob.", name=name)
