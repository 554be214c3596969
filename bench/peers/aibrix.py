"""AIBrix: its metadata service, which has its batch API. It reaches engines only where it may start
them itself, on Kubernetes or a rented machine; without one there is `--dry-run`, which calls no
engine and answers with what it was asked. So it is measured without any engine."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.environments import python_with
from bench.peers.openai import OpenAIServer
from bench.processes import Failure, cpu_seconds, free_port, running, wait_until

PACKAGES: Final = Path(__file__).with_name("aibrix.txt")
START_SECONDS: Final = 60.0


class Aibrix(OpenAIServer):
    """A running server."""

    def __init__(self, pid: int, port: int) -> None:
        super().__init__(port)
        self._pid = pid

    def is_up(self) -> bool:
        """Whether it answers."""
        try:
            return bool(self.client.get("/healthz"))
        except (OSError, Failure, http.client.HTTPException):
            return False

    def cpu(self) -> float:
        """CPU seconds so far."""
        return cpu_seconds(self._pid)


@contextmanager
def serving(home: Path) -> Iterator[Aibrix]:
    """A fresh server that calls no engine; raises `Failure` where it does not start."""
    home.mkdir()
    port, log = free_port(), home / "aibrix.log"
    program = python_with(PACKAGES).parent / "aibrix_metadata"
    command = [str(program), "--host", "127.0.0.1", "--port", str(port), "--dry-run"]
    with running(command, log, more={"PYTHONPATH": ""}, folder=home) as process:
        server = Aibrix(process.pid, port)

        def is_up() -> bool:
            if process.poll() is not None:
                last = log.read_text(errors="replace").strip().splitlines()[-1:]
                raise Failure(f"it ended at once: {''.join(last)}")
            return server.is_up()

        wait_until(is_up, START_SECONDS, "the start of AIBrix", 0.5)
        yield server
