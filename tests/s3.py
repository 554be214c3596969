"""A real S3 server for tests: moto's, a process of its own on loopback, with a bucket per test.

It keeps its objects in memory: to have the store away and back, put a `tests.proxy.Proxy` before
it. Without the server a test is skipped on a laptop and fails in CI.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import socket
import subprocess
import sys
import time
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection

import pytest

KEY = "AKIATESTKEY"
SECRET = "test-secret-of-the-store"
_SIGNED = "AWS4-HMAC-SHA256 Credential=x/20300101/us-east-1/s3/aws4_request"


@dataclass
class S3Server:
    """moto's server. `start` and `stop` may be called again and again; its objects go with it."""

    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.port = self.port or free_port()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while not self._answers():
            assert self.process.poll() is None, "the S3 server ended"
            assert time.monotonic() < deadline, "the S3 server does not answer"
            time.sleep(0.05)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def call(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """A request past all signatures."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            headers = {"authorization": _SIGNED, "content-type": "text/plain"}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def bucket(self) -> Bucket:
        """A new, empty bucket."""
        bucket = Bucket(self, f"test-{uuid.uuid4().hex}")
        bucket.make()
        return bucket

    def let_in(self, *, everybody: bool) -> None:
        """Whether every key is taken, or none."""
        calls = b"1e18" if everybody else b"0"
        status, _ = self.call("POST", "/moto-api/reset-auth", calls)
        assert status == 200

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return self.call("GET", "/moto-api/")[0] == 200
        return False


@dataclass
class Bucket:
    """One bucket, and how to reach it."""

    server: S3Server
    name: str
    prefix: str = "some/prefix"
    port: int = field(default=0)
    """Of a proxy before the server, where there is one."""

    @property
    def url(self) -> str:
        return f"s3://{self.name}/{self.prefix}"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to be told of it."""
        return {
            "BATCHMILL_STORAGE_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port or self.server.port}",
        }

    def make(self) -> None:
        assert self.server.call("PUT", f"/{self.name}")[0] == 200

    def names(self) -> list[str]:
        """Every object in it, by its whole name."""
        found: list[str] = []
        token = ""
        while True:
            _, body = self.server.call("GET", f"/{self.name}?list-type=2{token}")
            tree = ET.fromstring(body)
            found += [each.text or "" for each in tree.iterfind(".//{*}Contents/{*}Key")]
            more = tree.findtext("{*}NextContinuationToken")
            if not more:
                return found
            token = f"&continuation-token={more}"

    def unfinished(self) -> int:
        """How many multipart uploads were begun and neither completed nor aborted."""
        _, body = self.server.call("GET", f"/{self.name}?uploads")
        return len(ET.fromstring(body).findall("{*}Upload"))

    def put(self, name: str, data: bytes) -> None:
        """Write an object behind the store's back."""
        path = f"/{self.name}/{self.prefix}/{name}"
        assert self.server.call("PUT", path, data)[0] == 200

    def delete(self) -> None:
        """Take the bucket away with all that is in it."""
        for name in self.names():
            self.server.call("DELETE", f"/{self.name}/{name}")
        assert self.server.call("DELETE", f"/{self.name}")[0] == 204


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def needs_s3() -> None:
    """Skip the test, or in CI fail it, where the server or its client is not installed."""
    missing = [name for name in ("moto", "obstore") if importlib.util.find_spec(name) is None]
    if missing:
        message = f"{' and '.join(missing)} must be installed for tests on S3"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """One server for all tests of a session."""
    needs_s3()
    server = S3Server()
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def bucket(s3_server: S3Server) -> Bucket:
    """A bucket of the test's own."""
    return s3_server.bucket()
