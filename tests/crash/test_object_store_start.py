"""What `serve` says at its start of an object store that it cannot use, and of one that is away."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.proxy import proxied
from tests.s3 import KEY, SECRET, Bucket, bucket, free_port, s3_server
from tests.serving import chat_lines, eventually, serving

__all__ = ["bucket", "s3_server"]
pytestmark = pytest.mark.timeout(180)

WITHOUT_THE_EXTRA = (
    "import sys; sys.modules['obstore'] = None; from batchmill.cli.main import run; run()"
)


def refused(data: Path, environment: dict[str, str], begin: Sequence[str] = ()) -> str:
    """The one line with which `serve` ends at once."""
    words = begin or ("-m", "batchmill")
    ran = subprocess.run(
        [sys.executable, *words, "serve", "--data", str(data), "--port", "0", "--engine", "sim"],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env={**os.environ, **environment},
    )
    assert ran.returncode == 2, ran
    assert "Traceback" not in ran.stderr + ran.stdout
    said = [line for line in ran.stderr.splitlines() if line.strip()]
    assert len(said) == 1, ran.stderr
    assert KEY not in said[0]
    assert SECRET not in said[0]
    return said[0]


def test_a_bucket_that_does_not_exist_is_refused_in_one_line(
    tmp_path: Path, bucket: Bucket
) -> None:
    bucket.delete()
    said = refused(tmp_path / "data", bucket.environment)
    assert "storage_url" in said
    assert "NoSuchBucket" in said


def test_wrong_credentials_are_refused_in_one_line(tmp_path: Path, bucket: Bucket) -> None:
    bucket.server.let_in(everybody=False)
    try:
        said = refused(tmp_path / "data", bucket.environment)
    finally:
        bucket.server.let_in(everybody=True)
    assert "credentials" in said


@pytest.mark.parametrize("url", ["s3://", "ftp://bucket", "s3://key:secret@bucket", "bucket"])
def test_a_bad_url_is_refused_in_one_line(tmp_path: Path, url: str) -> None:
    said = refused(tmp_path / "data", {"BATCHMILL_STORAGE_URL": url})
    assert "s3://bucket/prefix" in said
    assert "key:secret" not in said


def test_a_vendors_setting_that_is_missing_is_refused_in_one_line(tmp_path: Path) -> None:
    assert "storage_url" in refused(tmp_path / "data", {"BATCHMILL_STORAGE_URL": "az://box/prefix"})


def test_a_missing_extra_is_refused_in_one_line(tmp_path: Path) -> None:
    url = {"BATCHMILL_STORAGE_URL": "s3://bucket"}
    assert "batchmill[object-store]" in refused(tmp_path / "data", url, ("-c", WITHOUT_THE_EXTRA))


def test_a_store_that_is_away_at_the_start_is_waited_for(tmp_path: Path, bucket: Bucket) -> None:
    bucket.port = free_port()
    with serving(tmp_path / "data", "--engine", "sim", **bucket.environment) as serve:
        requests = [{"body": {"messages": [{"role": "user", "content": "hello"}]}}]
        fields = {"endpoint": "/v1/chat/completions", "model": "sim", "requests": requests}
        answer = serve.http.call("POST", "/v1/batch/jobs", fields, timeout=60)
        assert answer.status == 503, answer
        assert "retry-after" in answer.headers
        assert serve.http.call("GET", "/v1/batch/jobs").json()["total"] == 0
        assert serve.http.call("GET", "/readyz", timeout=60).status == 503
        with proxied(("127.0.0.1", bucket.server.port), bucket.port):
            eventually(lambda: serve.http.call("GET", "/readyz").status == 200, 60, "to be ready")
            job = serve.create(input_files=[serve.upload(chat_lines(10))])["id"]
            assert serve.wait_ended(job, 60)["status"] == "SUCCESS"
