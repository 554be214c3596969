"""`batchmill serve` under measurement, and the little client that drives it."""

from __future__ import annotations

import http.client
import json
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.client import Client
from bench.inputs import ENDPOINT, MODEL
from bench.processes import (
    Failure,
    children,
    cpu_seconds,
    free_port,
    peak_bytes,
    running,
    started_at,
    wait_until,
    words,
)

IN_FLIGHT: Final = 256
START_SECONDS: Final = 30.0
SETTLING_SECONDS: Final = 1.5
TERMINAL: Final = {"SUCCESS", "FAILED", "TIMEOUT_EXCEEDED", "CANCELLED"}
_LEDGER: Final = "ledger.sqlite"
_CONFIG: Final = """\
[[engines]]
name = "bench"
url = "{url}"
concurrency = {in_flight}
"""


@dataclass(frozen=True, slots=True)
class Moments:
    """A job's life as its ledger has it, in Unix seconds; None: not yet."""

    state: str
    created: float
    started: float | None
    finalizing: float | None
    ended: float | None


class Server:
    """A running `batchmill serve`: its processes and its API."""

    def __init__(self, pid: int, port: int, data: Path) -> None:
        self.pid, self.port, self.data = pid, port, data
        self._client = Client(port)

    # ---- its processes

    def roles(self) -> dict[str, int]:
        """The process ids by what the processes are for."""
        found = {"serve": self.pid}
        for child in sorted(children(self.pid), key=started_at):
            line = " ".join(words(child))
            role = "worker" if "worker" in line else "api" if "api" in line else "other"
            its = sum(known.partition("-")[0] == role for known in found)
            found[f"{role}-{its + 1}" if its else role] = child
        return found

    def cpu(self) -> dict[str, float]:
        """CPU seconds of each process so far."""
        return {role: cpu_seconds(pid) for role, pid in self.roles().items()}

    def peaks(self) -> dict[str, int]:
        """Peak memory of each process so far, in bytes."""
        return {role: peak_bytes(pid) for role, pid in self.roles().items()}

    # ---- its API

    def get(self, path: str) -> Any:
        """The JSON that a GET answers."""
        return self._client.get(path)

    def upload(self, path: Path) -> str:
        """Upload a batch file; its id."""
        return self._client.upload(path)

    def create(self, file: str, model: str = MODEL) -> str:
        """Create a job over an uploaded file; its id."""
        wanted = {"input_files": [file], "endpoint": ENDPOINT, "model": model}
        return str(self._client.post("/v1/batch/jobs", wanted)["id"])

    def cancel(self, job: str) -> dict[str, Any]:
        """Ask for the end of a job; the job as it then is."""
        return dict(self._client.post(f"/v1/batch/jobs/{job}/cancel"))

    def job(self, job: str) -> dict[str, Any]:
        """The job as the API shows it."""
        return dict(self._client.get(f"/v1/batch/jobs/{job}"))

    def count_lines(self, file: str) -> int:
        """Download a result file and count its lines."""
        return sum(piece.count(b"\n") for piece in self._client.pieces(file))

    def custom_ids(self, file: str) -> list[str]:
        """The `custom_id` of every line of a result file."""
        text = b"".join(self._client.pieces(file))
        return [json.loads(line)["custom_id"] for line in text.splitlines()]

    # ---- its ledger, read without troubling the server

    def moments(self, job: str) -> Moments:
        """When what happened to the job."""
        url = f"{(self.data / _LEDGER).absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(url, uri=True, timeout=5)) as ledger:
            row = ledger.execute(
                "SELECT state, created_at, started_at, finalizing_at, ended_at"
                " FROM job WHERE id = ?",
                (job,),
            ).fetchone()
        if row is None:
            raise Failure(f"the ledger has no job {job}")
        return Moments(*row)

    def leave(self, job: str, state: str, seconds: float) -> None:
        """Wait until the job has left that state of the ledger's."""
        wait_until(lambda: self.moments(job).state != state, seconds, f"{state} a job", 0.01)

    def finish(self, job: str, seconds: float) -> Moments:
        """Wait for the end of a job; raises `Failure` unless every line was answered."""
        wait_until(lambda: self.moments(job).ended is not None, seconds, "a job")
        shown = self.job(job)
        if shown["status"] != "SUCCESS" or shown["succeeded_requests"] != shown["total_requests"]:
            raise Failure(f"a job ended as {shown['status']}, not every line was answered")
        return self.moments(job)


@contextmanager
def batchmill(
    engine: str, home: Path, name: str, *arguments: str, in_flight: int = IN_FLIGHT
) -> Iterator[Server]:
    """A fresh server on a fresh data directory, with that engine; both are gone afterwards."""
    config = home / f"{name}.toml"
    config.write_text(_CONFIG.format(url=engine, in_flight=in_flight))
    with batchmill_with(config, home, name, *arguments) as server:
        yield server


@contextmanager
def batchmill_with(config: Path, home: Path, name: str, *arguments: str) -> Iterator[Server]:
    """A fresh server with that configuration file, on a fresh data directory."""
    with started(config, home, name, *arguments) as server:
        yield server
    shutil.rmtree(server.data)


@contextmanager
def started(
    config: Path, home: Path, name: str, *arguments: str, settle: bool = True
) -> Iterator[Server]:
    """A server on the data directory of that name, whatever is there; it stays."""
    port, data, log = free_port(), home / name, home / f"{name}.log"
    command = [sys.executable, "-m", "batchmill", "serve", "--port", str(port)]
    command += ["--data", str(data), "--config", str(config), *arguments]
    with running(command, log) as process:
        server = Server(process.pid, port, data)

        def is_up() -> bool:
            if process.poll() is not None:
                last = log.read_text(errors="replace").strip().splitlines()[-1:]
                raise Failure(f"batchmill serve ended at once: {''.join(last)}")
            try:
                return bool(server.get("/readyz"))
            except (OSError, Failure, http.client.HTTPException):
                return False

        wait_until(is_up, START_SECONDS, "the start of batchmill serve", 0.1)
        if settle:
            time.sleep(SETTLING_SECONDS)
        yield server
