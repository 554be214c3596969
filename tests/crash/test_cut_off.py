"""A worker whose database is out of reach stops by itself, and its shards are taken over."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.namespaces import are_to_be_had, enter


@pytest.mark.timeout(300)
def test_a_worker_that_is_cut_off_from_its_database_stops_and_nothing_doubles(
    tmp_path: Path,
) -> None:
    if not are_to_be_had():
        message = "network namespaces are not to be had here (ip, unshare, and the right to)"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    done = enter(
        *("-m", "tests.chaos.cut_off", str(tmp_path), "--seconds", "40", "--lease", "5"),
        seconds=280,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
