"""A shuffled job on real llama.cpp: cached tokens and time, beside the same calls in file order."""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from bench.inputs import ENDPOINT, MODEL
from bench.processes import free_port, running, wait_until
from bench.server import batchmill_with_engines
from bench.table import Place, Row, at_least
from bench.templates import Batch, shuffled

LINES: Final = 300
TEMPLATES: Final = 60
TEMPLATE_BYTES: Final = 1_200
JOB_SECONDS: Final = 240.0
_PARALLEL: Final = 4
_CACHE_MIB: Final = 1
"""Prompts of a model of 8 billion parameters take some 200 times the memory of the demo model's: of
those the default of 256 MiB would hold about as many."""
_ENGINE: Final = (
    '[[engines]]\nname = "local"\nurl = "{origin}/v1"\nkind = "llamacpp"\nconcurrency = {calls}\n'
    '[models]\n"{model}" = "batchmill-demo"\n'
)


@dataclass(frozen=True, slots=True)
class Run:
    """What one run took, and what llama.cpp said of its cache."""

    seconds: float
    cached_tokens: int
    prompt_tokens: int


def rows(place: Place) -> list[Row]:
    """The job in file order, then through Batchmill, each on a fresh engine."""
    batch = shuffled(LINES, TEMPLATES, TEMPLATE_BYTES, max_tokens=2)
    with _engine(place.home) as origin:
        plain = _in_file_order(batch, origin)
    with _engine(place.home) as origin:
        ours = _through_batchmill(place, batch, origin)
    cached = f"{ours.cached_tokens:,} of {ours.prompt_tokens:,} against {plain.cached_tokens:,}"
    return [
        at_least(
            f"llama.cpp, {LINES} lines over {TEMPLATES} templates: cached tokens ({cached})",
            ours.cached_tokens / max(1, plain.cached_tokens),
            1.0,
            " x file order",
            2,
        ),
        at_least(
            f"llama.cpp: speed ({ours.seconds:.1f} s against {plain.seconds:.1f} s)",
            plain.seconds / ours.seconds,
            1.0,
            " x file order",
            2,
        ),
    ]


def _through_batchmill(place: Place, batch: Batch, origin: str) -> Run:
    path = batch.write(place.home / "llamacpp.jsonl")
    engines = _ENGINE.format(origin=origin, calls=_PARALLEL, model=MODEL)
    with batchmill_with_engines(engines, place.home, "llamacpp") as server:
        job = server.create(server.upload(path))
        life = server.finish(job, JOB_SECONDS)
        read, cached = server.prompt_tokens(job)
    assert life.started is not None
    assert life.ended is not None
    return Run(life.ended - life.started, cached, read)


def _in_file_order(batch: Batch, origin: str) -> Run:
    """The same calls by as many threads, each taking the next line of the file."""
    lines, lock = iter(range(LINES)), threading.Lock()
    usages: list[tuple[int, int]] = []

    def send() -> None:
        with closing(http.client.HTTPConnection(urlsplit(origin).netloc, timeout=60)) as client:
            while True:
                with lock:
                    number = next(lines, None)
                if number is None:
                    return
                usages.append(_usage(client, batch.body(number)))

    threads = [threading.Thread(target=send) for _ in range(_PARALLEL)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - began
    return Run(seconds, sum(cached for cached, _ in usages), sum(read for _, read in usages))


def _usage(client: http.client.HTTPConnection, body: bytes) -> tuple[int, int]:
    client.request("POST", ENDPOINT, body, {"content-type": "application/json"})
    usage = json.loads(client.getresponse().read())["usage"]
    return usage["prompt_tokens_details"]["cached_tokens"], usage["prompt_tokens"]


def _is_ready(port: int) -> bool:
    """Whether the model is loaded: the port is open before."""
    with suppress(OSError), closing(http.client.HTTPConnection("127.0.0.1", port)) as client:
        client.request("GET", "/health")
        return client.getresponse().status == HTTPStatus.OK
    return False


@contextmanager
def _engine(home: Path) -> Iterator[str]:
    """The origin of a fresh llama.cpp with the demo model."""
    port = free_port()
    command = [sys.executable, "-m", "batchmill.engines.local", "--port", str(port)]
    command += ["--parallel", str(_PARALLEL), "--cache-mib", str(_CACHE_MIB)]
    with running(command, home / "llamacpp.out"):
        wait_until(lambda: _is_ready(port), 60, "the start of llama.cpp", 0.1)
        yield f"http://127.0.0.1:{port}"
