"""A fleet for tests: any number of `batchmill worker` and `batchmill serve --role api` processes
over one ledger, each killed, frozen, drained and started again by the pid that was kept.

What they share comes from the arguments and the environment that all are given: a data directory,
or BATCHMILL_DATABASE_URL and BATCHMILL_STORAGE_URL.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.serving import (
    Answer,
    Process,
    Serve,
    descendants,
    eventually,
    living,
    state_of,
)

READY_SECONDS = 60.0


@dataclass
class Member:
    """One process of the fleet with its children, and what may happen to it."""

    name: str
    arguments: list[str]
    environment: dict[str, str]
    log: Path
    ready: str
    process: Process | None = None
    worker: str = ""
    """The name that it works under, if it is a worker."""

    def start(self) -> Member:
        """Start it, or start it again; returns once it said that it is ready."""
        process = Process(self.arguments, self.environment, log=self.log)
        match = process.start(self.ready, READY_SECONDS)
        self.process, self.worker = process, match[1]
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def pids(self) -> list[int]:
        """The process and all that it started."""
        return [self.pid, *descendants(self.pid)]

    @property
    def lives(self) -> bool:
        return self.process is not None and bool(living([self.pid]))

    def kill(self) -> None:
        """kill -9; returns when its children are gone too."""
        pids = self.pids()
        assert self.process is not None
        self.process.kill()
        eventually(lambda: not living(pids), 10, f"the children of {self.name} to end")

    def freeze(self) -> None:
        """SIGSTOP the whole of it; returns when all stand still."""
        pids = self.pids()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        eventually(lambda: {state_of(pid) for pid in pids} <= {"T"}, 10, f"{self.name} to freeze")

    def thaw(self) -> None:
        """SIGCONT the whole of it."""
        for pid in reversed(self.pids()):
            os.kill(pid, signal.SIGCONT)

    def ask_to_end(self) -> None:
        """SIGTERM, without waiting."""
        os.kill(self.pid, signal.SIGTERM)

    def drained(self, seconds: float = 60.0) -> int:
        """Its exit code, once it has ended after `ask_to_end`."""
        assert self.process is not None
        assert self.process.popen is not None
        try:
            return self.process.popen.wait(seconds)
        finally:
            self.process.kill()

    def drain(self, seconds: float = 60.0) -> int:
        """SIGTERM, and its exit code."""
        self.ask_to_end()
        return self.drained(seconds)


@dataclass
class Fleet:
    """Processes over one ledger. Calls go to a ready API, as a load balancer sends them."""

    data: Path
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    workers: list[Member] = field(default_factory=list)
    apis: list[Member] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)

    def add_worker(self) -> Member:
        """Start one more worker."""
        name = f"worker{len(self.workers)}"
        worker = self._member(name, ["worker", *self.arguments], r"works as (\S+)")
        self.workers.append(worker)
        return worker.start()

    def add_api(self, port: int = 0) -> Member:
        """Start one more API; restarted it keeps its port."""
        name = f"api{len(self.apis)}"
        arguments = ["serve", "--role", "api", "--port", str(port), *self.arguments]
        api = self._member(name, arguments, r"http://127\.0\.0\.1:(\d+)").start()
        self.ports[name] = int(api.worker)
        api.arguments[api.arguments.index("--port") + 1] = api.worker
        self.apis.append(api)
        return api

    def door(self, api: Member) -> Serve:
        """That API, to be called by itself."""
        door = Serve(self.data)
        door.port, door.process = self.ports[api.name], api.process
        return door

    def is_ready(self, api: Member) -> bool:
        """Whether that API wants requests."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.door(api).http.call("GET", "/readyz", timeout=5.0).status == 200
        return False

    def ready(self) -> Serve:
        """An API that is ready; asserts that there is one."""
        found = next((api for api in self.apis if self.is_ready(api)), None)
        assert found is not None, "no API is ready"
        return self.door(found)

    def get(self, path: str) -> Answer:
        """Ask an API that was ready a moment ago; a refused connection is an error."""
        return self.ready().http.call("GET", path)

    def seen(self) -> list[dict[str, Any]]:
        """What `batchmill workers` says."""
        command = [sys.executable, "-m", "batchmill", "workers", "--json", *self._place()]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | self.environment,
            timeout=60,
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    def states(self) -> dict[str, str]:
        """What each worker is up to, by its name."""
        return {worker["name"]: worker["state"] for worker in self.seen()}

    def kill(self) -> None:
        """End all that still live."""
        for member in (*self.workers, *self.apis):
            if member.lives:
                member.thaw()
                member.kill()
            elif member.process is not None:
                member.process.kill()

    def _place(self) -> list[str]:
        return ["--data", str(self.data)]

    def _member(self, name: str, arguments: list[str], ready: str) -> Member:
        log = self.data.parent / f"{self.data.name}-{name}.log"
        command = ["-m", "batchmill", arguments[0], *self._place(), *arguments[1:]]
        return Member(name, command, self.environment, log, ready)


@contextlib.contextmanager
def fleet(
    data: Path, *arguments: str, workers: int, apis: int = 1, **environment: str
) -> Iterator[Fleet]:
    """A fleet of so many workers and API processes for the block."""
    made = Fleet(data, arguments, environment)
    try:
        for _ in range(apis):
            made.add_api()
        for _ in range(workers):
            made.add_worker()
        yield made
    finally:
        made.kill()
