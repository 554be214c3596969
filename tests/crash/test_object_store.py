"""Jobs over an object store: killed workers, a store that is away, and what it refuses."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.s3 import Bucket, bucket, s3_server
from tests.serving import Serve, chat_lines, eventually, serving, simulating

__all__ = ["bucket", "s3_server"]
pytestmark = pytest.mark.timeout(180)
LINES = 3_000


def assert_complete(serve: Serve, job: dict, lines: int = LINES) -> None:
    assert (job["status"], job["failed_requests"]) == ("SUCCESS", 0), job
    ids = [line["custom_id"] for line in serve.lines_of(job["output_file"])]
    assert ids == [f"line-{n}" for n in range(lines)]


def test_a_job_in_a_bucket_survives_kills_of_its_worker(tmp_path: Path, bucket: Bucket) -> None:
    with (
        simulating("latency=50ms") as sim,
        serving(tmp_path / "data", "--engine", sim.url, **bucket.environment) as serve,
    ):
        job = serve.create(input_files=[serve.upload(chat_lines(LINES))])["id"]
        for share in (0.2, 0.5, 0.8):
            eventually(lambda share=share: sim.calls()["total"] > share * LINES, 60, "progress")
            worker = serve.child("worker")
            assert worker is not None
            os.kill(worker, signal.SIGKILL)
        assert_complete(serve, serve.wait_ended(job, 90))
        assert not list((tmp_path / "data" / "blobs").rglob("*")), "a blob lies on the disk"
        assert all(name.startswith(f"{bucket.prefix}/") for name in bucket.names())
