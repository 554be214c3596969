from __future__ import annotations

from pathlib import Path

import pytest

from batchmill.blobs.local import LocalBlobs
from batchmill.clock import SystemClock
from batchmill.ports import Blobs
from tests.s3 import Bucket, bucket, s3_server

__all__ = ["bucket", "s3_server"]


@pytest.fixture(params=["local", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Blobs:
    """Every store that keeps the port's promises."""
    if request.param == "local":
        return LocalBlobs(tmp_path / "blobs")
    return opened(request.getfixturevalue("bucket"), monkeypatch)


def opened(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Blobs:
    """The bucket as this process sees it."""
    from batchmill.blobs.object_store import ObjectBlobs

    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    return ObjectBlobs(bucket.url, SystemClock())
