"""Real processes for tests: a `serve`, a `sim` engine, and plain HTTP to both.

Everything listens on loopback and a free port, and is stopped by the pid that was kept.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Answer:
    status: int
    body: bytes
    headers: dict[str, str]

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Http:
    """One request per connection: simple, and a dead server is noticed at once."""

    base: str

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        timeout: float = 30.0,
    ) -> Answer:
        where = urlsplit(self.base)
        connection = http.client.HTTPConnection(where.hostname, where.port, timeout=timeout)
        try:
            headers = dict(headers or {})
            if body is not None and not isinstance(body, bytes):
                body = json.dumps(body).encode()
                headers.setdefault("content-type", "application/json")
            connection.request(method, where.path + path, body, headers)
            answer = connection.getresponse()
            return Answer(
                answer.status,
                answer.read(),
                {name.lower(): value for name, value in answer.getheaders()},
            )
        finally:
            connection.close()


@dataclass
class Process:
    """A child that printed the line it is ready with."""

    arguments: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    ready: str = ""
    popen: subprocess.Popen[str] | None = None
    lines: list[str] = field(default_factory=list)
    log: Path | None = None

    def start(self, pattern: str, seconds: float = 30.0) -> re.Match[str]:
        """Start it and wait for a line of its output that matches."""
        with (self.log or Path(os.devnull)).open("a") as errors:
            self.popen = subprocess.Popen(
                [sys.executable, *self.arguments],
                stdout=subprocess.PIPE,
                stderr=errors,
                stdin=subprocess.DEVNULL,
                text=True,
                env={**os.environ, **self.environment},
            )
        assert self.popen.stdout is not None
        deadline = time.monotonic() + seconds
        for line in self.popen.stdout:
            self.lines.append(line.rstrip())
            if match := re.search(pattern, line):
                return match
            if time.monotonic() > deadline:
                break
        self.kill()
        log = self.log.read_text()[-3000:] if self.log else ""
        raise AssertionError(f"not ready: {self.arguments} {self.lines} {log}")

    @property
    def pid(self) -> int:
        assert self.popen is not None
        return self.popen.pid

    def stop(self, seconds: float = 20.0) -> int:
        """Ask it to end, and return its exit code."""
        assert self.popen is not None
        self.popen.send_signal(signal.SIGTERM)
        try:
            return self.popen.wait(seconds)
        finally:
            self.kill()

    def kill(self) -> None:
        """End it at once, as kill -9 does."""
        if self.popen is not None:
            with contextlib.suppress(ProcessLookupError):
                self.popen.kill()
            self.popen.wait()
            if self.popen.stdout:
                self.popen.stdout.close()


class Serve:
    """`batchmill serve` on a data directory that outlives it."""

    def __init__(self, data: Path, *arguments: str, **environment: str) -> None:
        self.data = data
        self.arguments = arguments
        self.environment = environment
        self.log = data.parent / f"{data.name}.log"
        self.port = 0
        self.process: Process | None = None

    def start(self) -> Serve:
        arguments = ["-m", "batchmill", "serve", "--data", str(self.data)]
        arguments += ["--port", str(self.port), *self.arguments]
        self.process = Process(arguments, self.environment, log=self.log)
        match = self.process.start(r"http://127\.0\.0\.1:(\d+)")
        self.port = int(match[1])
        self.wait_ready()
        return self

    @property
    def http(self) -> Http:
        return Http(f"http://127.0.0.1:{self.port}")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def child(self, name: str) -> int | None:
        """The pid of the child process that does that (api, worker, an engine), if it lives."""
        for pid in descendants(self.pid):
            words = command_of(pid)
            if any(word == f"batchmill.{name}" or word.endswith(f".{name}") for word in words):
                return pid
        return None

    def wait_ready(self, seconds: float = 20.0) -> None:
        eventually(self._answers, seconds, "serve to answer")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.http.call("GET", "/healthz", timeout=2.0).status == 200
        return False

    def upload(self, data: bytes, name: str = "in.jsonl", purpose: str = "batch") -> str:
        """Upload a file and return its id."""
        edge = uuid.uuid4().hex
        body = (
            f'--{edge}\r\ncontent-disposition: form-data; name="purpose"\r\n\r\n{purpose}\r\n'
            f'--{edge}\r\ncontent-disposition: form-data; name="file"; filename="{name}"\r\n'
            "content-type: application/octet-stream\r\n\r\n"
        ).encode()
        body += data + f"\r\n--{edge}--\r\n".encode()
        kind = {"content-type": f"multipart/form-data; boundary={edge}"}
        answer = self.http.call("POST", "/v1/files", body, kind, timeout=120)
        assert answer.status == 200, answer
        return str(answer.json()["id"])

    def create(self, **fields: Any) -> dict[str, Any]:
        """Create a job through Mistral's route."""
        fields.setdefault("endpoint", "/v1/chat/completions")
        fields.setdefault("model", "sim")
        answer = self.http.call("POST", "/v1/batch/jobs", fields)
        assert answer.status == 200, answer
        return dict(answer.json())

    def job(self, job: str) -> dict[str, Any]:
        answer = self.http.call("GET", f"/v1/batch/jobs/{job}")
        assert answer.status == 200, answer
        return dict(answer.json())

    def wait_ended(self, job: str, seconds: float = 60.0) -> dict[str, Any]:
        """The job once it is terminal. A server that is away meanwhile is waited for."""
        last: dict[str, Any] = {}

        def ended() -> bool:
            nonlocal last
            with contextlib.suppress(OSError, http.client.HTTPException):
                last = self.job(job)
                return last["status"] not in {"QUEUED", "RUNNING", "CANCELLATION_REQUESTED"}
            return False

        try:
            eventually(ended, seconds, f"job {job} to end")
        except AssertionError as error:
            raise AssertionError(f"{error}: {last}") from None
        return last

    def lines_of(self, file: str | None) -> list[dict[str, Any]]:
        """The result lines of a file, none for a file that is not there."""
        if file is None:
            return []
        answer = self.http.call("GET", f"/v1/files/{file}/content", timeout=120)
        assert answer.status == 200, answer
        assert answer.body.isascii()
        return [json.loads(line) for line in answer.body.splitlines()]

    def stop(self) -> int:
        assert self.process is not None
        return self.process.stop()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()


class Sim:
    """A `sim` engine in a process of its own, which counts every call that arrived whole."""

    def __init__(self, spec: str = "", port: int = 0) -> None:
        arguments = ["-m", "batchmill.engines.sim", "--port", str(port)]
        if spec:
            arguments += ["--spec", spec]
        self.process = Process(arguments)
        self.url = self.process.start(r"(http://127\.0\.0\.1:\d+/v1)")[1]
        self.http = Http(self.url.removesuffix("/v1"))

    def control(self, **settings: Any) -> None:
        assert self.http.call("POST", "/sim/control", settings).status == 200

    def calls(self) -> dict[str, Any]:
        return dict(self.http.call("GET", "/sim/calls", timeout=60).json())

    def answers(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.http.call("GET", "/health", timeout=2.0).status == 200
        return False

    def stop(self) -> None:
        self.process.kill()


@contextlib.contextmanager
def serving(data: Path, *arguments: str, **environment: str) -> Iterator[Serve]:
    """A running `serve` for the block."""
    serve = Serve(data, *arguments, **environment).start()
    try:
        yield serve
    finally:
        serve.kill()


@contextlib.contextmanager
def simulating(spec: str = "") -> Iterator[Sim]:
    """A running `sim` engine for the block."""
    sim = Sim(spec)
    try:
        yield sim
    finally:
        sim.stop()


def chat_lines(count: int, text: str = "question {n} id:line-{n}") -> bytes:
    """So many chat requests, each with its own text."""
    lines = (
        json.dumps(
            {
                "custom_id": f"line-{n}",
                "body": {"messages": [{"role": "user", "content": text.format(n=n)}]},
            }
        )
        for n in range(count)
    )
    return ("\n".join(lines) + "\n").encode()


def as_openai(lines: bytes) -> bytes:
    """The same requests as lines of OpenAI's, each naming the model of the simulator."""
    frame = {"method": "POST", "url": "/v1/chat/completions"}
    texts = []
    for line in map(json.loads, lines.splitlines()):
        body = {"model": "sim", **line["body"]}
        texts.append(json.dumps({"custom_id": line["custom_id"], **frame, "body": body}) + "\n")
    return "".join(texts).encode()


def eventually(holds: Any, seconds: float, what: str) -> None:
    """Ask again and again until it holds; only real processes are waited for like this."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s for {what}")
        time.sleep(0.05)


def descendants(pid: int) -> list[int]:
    """The live processes that a process started, and those they started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                if fields[0] != "Z" and int(fields[1]) == pid:
                    child = int(entry.name)
                    found += [child, *descendants(child)]
    return found


def living(pids: Iterable[int]) -> list[int]:
    """Those of the processes that still run. One that has ended and waits only for its parent
    to ask how is not among them: not every machine's first process asks at once."""
    return [pid for pid in pids if state_of(pid) not in {None, "Z", "X"}]


def state_of(pid: int) -> str | None:
    """The letter for what a process does now, None if there is none."""
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    return None


def command_of(pid: int) -> list[str]:
    """The words of a process's command line, none if it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return []
