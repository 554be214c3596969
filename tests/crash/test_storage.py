"""Storage that fills up, breaks or is newer than we are: said clearly, nothing lost, and it
goes on when the cause is gone."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import Serve, chat_lines, eventually, serving, simulating

pytestmark = pytest.mark.timeout(180)
LINES = 1_500
LONG = "question {n} id:line-{n} " + "x" * 8_000
"""6,000 such lines are eleven shards, of which six are opened at once."""


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of that size. Needs root; a laptop skips, CI fails."""
    disk = folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        if os.environ.get("CI"):
            pytest.fail(f"cannot mount a small file system: {mounted.stderr}")
        pytest.skip("mounting a small file system needs root")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path, leave: int) -> Path:
    """Use the disk up but for so many bytes."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            room = os.statvfs(disk)
            free = room.f_bavail * room.f_frsize
            if free <= leave:
                break
            file.write(b"\0" * min(65536, max(4096, free - leave)))
    return filler


def still(read: object, seconds: float) -> bool:
    """Whether what is read stays the same for that long."""
    before = read()
    time.sleep(seconds)
    return before == read()


def assert_complete(serve: Serve, job: dict) -> None:
    assert (job["status"], job["failed_requests"]) == ("SUCCESS", 0), job
    ids = [line["custom_id"] for line in serve.lines_of(job["output_file"])]
    assert ids == [f"line-{n}" for n in range(LINES)]


@pytest.mark.parametrize("low_disk", ["0", "6MB"], ids=["full", "below-the-watermark"])
def test_a_job_waits_while_the_disk_is_full_and_then_goes_on(tmp_path: Path, low_disk: str) -> None:
    with (
        simulating("latency=50ms,answer_bytes=2000") as sim,
        small_disk(tmp_path, "24m") as disk,
        serving(disk / "data", "--engine", sim.url, BATCHMILL_LOW_DISK=low_disk) as serve,
    ):
        job = serve.create(input_files=[serve.upload(chat_lines(LINES))])["id"]
        eventually(lambda: serve.job(job)["completed_requests"] > 100, 30, "progress")
        filler = fill(disk, leave=0)

        def waits() -> bool:
            return serve.job(job)["progress"]["waiting_reason"] == "storage_unavailable"

        eventually(waits, 30, "the job to say that storage is the reason")
        eventually(lambda: still(lambda: sim.calls()["total"], 1.0), 20, "calls to cease")
        calls, done = sim.calls()["total"], serve.job(job)["completed_requests"]
        assert calls - done <= 64 + 2 * 64 * 10, "calls went on whose answers cannot be kept"
        refused = serve.http.call("POST", "/v1/files", *multipart(chat_lines(LINES * 3)))
        assert refused.status == 503, refused
        assert "retry-after" in refused.headers
        filler.unlink()
        ended = serve.wait_ended(job, 60)
        assert_complete(serve, ended)
        assert sim.calls()["total"] == LINES, "an answer was dropped and asked for again"


def multipart(data: bytes) -> tuple[bytes, dict[str, str]]:
    head = (
        '--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        '--x\r\ncontent-disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
    )
    body = head.encode() + data + b"\r\n--x--\r\n"
    return body, {"content-type": "multipart/form-data; boundary=x"}


def input_blob(serve: Serve, file: str) -> Path:
    return next(serve.data.rglob(file))


@pytest.mark.parametrize("damage", ["missing", "cut", "garbage"])
def test_an_input_that_is_damaged_after_validation_ends_the_job_clearly(
    tmp_path: Path, damage: str
) -> None:
    with simulating("latency=5ms") as sim:
        config = tmp_path / "batchmill.toml"
        config.write_text(
            f'[[engines]]\nname = "a"\nurl = "{sim.url}"\nconcurrency = 8\ntimeout = "5s"\n'
        )
        with serving(tmp_path / "data", "--config", str(config)) as serve:
            file = serve.upload(chat_lines(6000, LONG))  # more than is opened ahead
            sim.control(status=502)
            job = serve.create(input_files=[file])["id"]
            eventually(
                lambda: serve.job(job)["progress"]["waiting_reason"] == "engine_down",
                20,
                "a reason",
            )
            blob = input_blob(serve, file)
            if damage == "missing":
                blob.unlink()
            elif damage == "cut":
                os.truncate(blob, blob.stat().st_size // 2)
            else:
                blob.write_bytes(b"\xff" * blob.stat().st_size)
            sim.control(status=0)
            ended = serve.wait_ended(job, 60)
            assert ended["completed_requests"] == ended["total_requests"] == 6000
            out, err = serve.lines_of(ended["output_file"]), serve.lines_of(ended["error_file"])
            assert len(out) + len(err) == 6000
            assert len(err) >= 1000
            assert {line["error"]["code"] for line in err} == {"internal_error"}
            if damage != "garbage":
                assert ended["status"] == "FAILED"
                assert "can no longer be read" in ended["errors"][0]["message"]


def test_an_input_that_is_missing_before_validation_fails_the_job(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--engine", "sim") as serve:
        file = serve.upload(chat_lines(10))
        input_blob(serve, file).unlink()
        job = serve.wait_ended(serve.create(input_files=[file])["id"], 30)
        assert job["status"] == "FAILED"
        assert "can no longer be read" in job["errors"][0]["message"]


def test_a_download_whose_segment_is_missing_is_an_error_and_not_a_short_file(
    tmp_path: Path,
) -> None:
    with serving(tmp_path / "data", "--engine", "sim") as serve:
        job = serve.wait_ended(serve.create(input_files=[serve.upload(chat_lines(10))])["id"], 30)
        for segment in (serve.data / "blobs" / "jobs" / job["id"] / "out").iterdir():
            segment.unlink()
        answer = serve.http.call("GET", f"/v1/files/{job['output_file']}/content")
        assert answer.status == 503 or answer.status >= 400
        assert answer.json()["error"]["message"]


def run_serve(data: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "batchmill", "serve", "--data", str(data), "--port", "0"]
    return subprocess.run(
        [*command, "--engine", "sim"], capture_output=True, text=True, timeout=30, check=False
    )


def assert_refused_in_one_line(ran: subprocess.CompletedProcess[str], *words: str) -> None:
    assert ran.returncode == 2, ran
    assert "Traceback" not in ran.stderr + ran.stdout
    said = [line for line in ran.stderr.splitlines() if line.strip()]
    assert len(said) == 1, ran.stderr
    for word in words:
        assert word in said[0]


def test_a_read_only_data_directory_is_refused_in_one_line(tmp_path: Path) -> None:
    with small_disk(tmp_path, "4m") as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        assert_refused_in_one_line(run_serve(disk / "data"), str(disk))


def test_a_ledger_from_a_newer_version_is_refused_in_one_line(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data, "--engine", "sim") as serve:
        serve.stop()
    ledger = sqlite3.connect(next(data.glob("*.sqlite")))
    with ledger:
        ledger.execute("UPDATE alembic_version SET version_num = '9999'")
    ledger.close()
    assert_refused_in_one_line(run_serve(data), "9999")
