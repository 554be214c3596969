"""Jobs over an object store: killed workers, a store that is away, and what it refuses."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from batchmill.app.datadir import ledger_path
from batchmill.blobs.object_store import ObjectBlobs
from batchmill.clock import SystemClock
from batchmill.core.chores import sweep_orphans
from batchmill.ledger import SqlLedger
from tests.proxy import Proxy, proxied
from tests.s3 import KEY, SECRET, Bucket, bucket, s3_server
from tests.serving import Answer, Serve, chat_lines, eventually, serving, simulating

__all__ = ["bucket", "s3_server"]
pytestmark = pytest.mark.timeout(180)
LINES = 3_000
AWAY_SECONDS = 10.0
Fault = Callable[[Proxy], None]


@pytest.fixture
def proxy(bucket: Bucket) -> Iterator[Proxy]:
    """A proxy before the store, through which the bucket is reached."""
    with proxied(("127.0.0.1", bucket.server.port)) as proxy:
        bucket.port = proxy.port
        yield proxy


def stalled(proxy: Proxy) -> None:
    proxy.rules.stalls = True


def failing(proxy: Proxy) -> None:
    head = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    proxy.rules.says = head


def still(read: Callable[[], object], seconds: float) -> bool:
    """Whether what is read stays the same for that long."""
    before = read()
    time.sleep(seconds)
    return before == read()


def multipart(data: bytes) -> tuple[bytes, dict[str, str]]:
    head = (
        '--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        '--x\r\ncontent-disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
    )
    kind = {"content-type": "multipart/form-data; boundary=x"}
    return head.encode() + data + b"\r\n--x--\r\n", kind


def assert_says_no_secret(serve: Serve) -> None:
    """Neither the logs nor the ledger hold the store's keys."""
    held = [serve.log, *serve.data.glob("ledger.sqlite*")]
    for secret in (KEY.encode(), SECRET.encode()):
        assert not [path for path in held if secret in path.read_bytes()]


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


def waits_for_storage(serve: Serve, job: str) -> bool:
    return serve.job(job)["progress"]["waiting_reason"] == "storage_unavailable"


def upload_answer(serve: Serve) -> Answer:
    """How an upload is answered now."""
    body, headers = multipart(chat_lines(10))
    return serve.http.call("POST", "/v1/files", body, headers, timeout=60)


@pytest.mark.parametrize(
    "away", [Proxy.refuse, stalled, failing], ids=["refuses", "stalls", "answers-500"]
)
def test_a_job_waits_while_the_store_is_away_and_then_goes_on(
    tmp_path: Path, proxy: Proxy, bucket: Bucket, away: Fault
) -> None:
    with (
        simulating("latency=50ms,answer_bytes=2000") as sim,
        serving(tmp_path / "data", "--engine", sim.url, **bucket.environment) as serve,
    ):
        job = serve.create(input_files=[serve.upload(chat_lines(LINES))])["id"]
        eventually(lambda: serve.job(job)["completed_requests"] > 100, 60, "progress")
        away(proxy)
        began = time.monotonic()
        eventually(lambda: waits_for_storage(serve, job), 60, "the job to say why it waits")
        eventually(lambda: still(lambda: sim.calls()["total"], 1.0), 60, "calls to cease")
        refused = upload_answer(serve)
        assert refused.status == 503, refused
        assert "retry-after" in refused.headers
        time.sleep(max(0.0, began + AWAY_SECONDS - time.monotonic()))
        proxy.resume()
        assert_complete(serve, serve.wait_ended(job, 90))
        assert sim.calls()["total"] == LINES, "an answer was dropped and asked for again"
        assert len(serve.http.call("GET", "/v1/files").json()["data"]) == 2, "half an upload"
        assert_says_no_secret(serve)


def test_answers_cut_off_or_lost_and_a_slow_store_double_nothing(
    tmp_path: Path, proxy: Proxy, bucket: Bucket
) -> None:
    proxy.rules.delay_seconds = 0.03
    with (
        simulating("latency=20ms,answer_bytes=1000") as sim,
        serving(tmp_path / "data", "--engine", sim.url, **bucket.environment) as serve,
    ):
        job = serve.create(input_files=[serve.upload(chat_lines(LINES))])["id"]
        for share in (0.1, 0.3, 0.5, 0.7, 0.9):
            eventually(lambda share=share: sim.calls()["total"] > share * LINES, 60, "progress")
            proxy.rules.loses, proxy.rules.cuts, proxy.rules.cut_bytes = 2, 2, 300
            proxy.reset()
        assert_complete(serve, serve.wait_ended(job, 90))
        assert sim.calls()["total"] == LINES


def test_a_job_waits_while_access_is_revoked_and_while_the_bucket_is_gone(
    tmp_path: Path, bucket: Bucket
) -> None:
    with (
        simulating("latency=50ms") as sim,
        serving(tmp_path / "data", "--engine", sim.url, **bucket.environment) as serve,
    ):
        job = serve.create(input_files=[serve.upload(chat_lines(LINES))])["id"]
        eventually(lambda: serve.job(job)["completed_requests"] > 100, 60, "progress")
        bucket.server.let_in(everybody=False)
        try:
            eventually(lambda: waits_for_storage(serve, job), 60, "the job to say why it waits")
        finally:
            bucket.server.let_in(everybody=True)
        assert_complete(serve, serve.wait_ended(job, 90))
        assert_says_no_secret(serve)
        bucket.delete()
        answer = serve.http.call("GET", f"/v1/files/{serve.job(job)['output_file']}/content")
        assert answer.status == 503, "results are not lost for good while their bucket is away"
        assert upload_answer(serve).status == 503


async def test_a_sweep_of_the_bucket_leaves_no_orphan(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        simulating("latency=20ms") as sim,
        serving(tmp_path / "data", "--engine", sim.url, **bucket.environment) as serve,
    ):
        job = serve.create(input_files=[serve.upload(chat_lines(LINES))])["id"]
        eventually(lambda: serve.job(job)["completed_requests"] > 100, 60, "progress")
        worker = serve.child("worker")
        assert worker is not None
        os.kill(worker, signal.SIGKILL)
        assert_complete(serve, serve.wait_ended(job, 90))
        assert serve.stop() == 0
    bucket.put(f"jobs/{job}/parts/0.1.99", b"a part that nobody published")
    bucket.put("inputs/0190a5b0-0000-7000-8000-000000000000", b"an upload that was cut off")
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    ledger = await SqlLedger.open(ledger_path(tmp_path / "data"), clock=SystemClock())
    try:
        blobs = ObjectBlobs(bucket.url, SystemClock())
        await sweep_orphans(ledger, blobs, results_age_seconds=0, uploads_age_seconds=0)
        left = [name async for name in blobs.names("", 0)]
        assert len(await ledger.referenced(left)) >= len([n for n in left if "probes/" not in n])
    finally:
        await ledger.close_connections()
    assert not [name for name in left if name.endswith((".99", "000000000000"))]
    assert len([name for name in left if "/out/" in name]) == 3
    assert bucket.unfinished() == 0
