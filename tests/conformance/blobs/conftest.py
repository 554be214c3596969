from __future__ import annotations

from pathlib import Path

import pytest

from batchmill.blobs.local import LocalBlobs
from batchmill.ports import Blobs


@pytest.fixture(params=["local"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    """Every store that keeps the port's promises."""
    stores = {"local": lambda: LocalBlobs(tmp_path / "blobs")}
    return stores[request.param]()
