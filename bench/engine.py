"""An engine that answers after a fixed time, knows when it was first called, and leaves the machine
to what is measured: `engine.c`, compiled for each run. Python would eat the second core."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from bench.inputs import MODEL, answer
from bench.processes import Failure, cpu_seconds, free_port, listens, running, wait_until

_SOURCE: Final = Path(__file__).with_name("engine.c")
_MODELS: Final = json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]})


class Engine:
    """A running engine."""

    def __init__(self, port: int, pid: int) -> None:
        self.origin, self._pid = f"http://127.0.0.1:{port}", pid

    def stamp(self) -> Any:
        """The monotonic time of the `first` call since the last stamp, and the `count` of all."""
        with urllib.request.urlopen(f"{self.origin}/stamp") as response:  # noqa: S310 - our own
            return json.load(response)

    def calls(self) -> int:
        """How many calls came since the last stamp; leaves the stamp as it is."""
        with urllib.request.urlopen(f"{self.origin}/calls") as response:  # noqa: S310 - our own
            return int(json.load(response)["count"])

    def cpu(self) -> float:
        """CPU seconds so far."""
        return cpu_seconds(self._pid)


@contextmanager
def slow_engine(home: Path, delay_ms: float) -> Iterator[Engine]:
    """A running engine that takes that long for every answer."""
    program = _compiled(home)
    texts = {"answer.json": answer(), "models.json": _MODELS.encode()}
    for name, text in texts.items():
        (home / name).write_bytes(text)
    port = free_port()
    command = [str(program), str(port), str(delay_ms), *(str(home / name) for name in texts)]
    with running(command, home / "engine.out") as process:
        wait_until(lambda: listens(port), 10, "the start of the slow engine")
        yield Engine(port, process.pid)


def _compiled(home: Path) -> Path:
    program, compiler = home / "engine", shutil.which("cc")
    if compiler is None:
        raise Failure("there is no C compiler; on Debian: apt install gcc libc6-dev")
    if not program.exists():
        command = [compiler, "-O2", "-o", str(program), str(_SOURCE)]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode:
            raise Failure(f"engine.c cannot be compiled: {done.stderr.decode().strip()[-300:]}")
    return program
