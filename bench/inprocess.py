"""A whole worker whose engine answers at once in its own process: all but the transport, in place.

    python -m bench.inprocess DIRECTORY LINES

Prints the CPU it took from creating a job to its end, validation included, in microseconds for
each line. The ledger, the blobs and the worker are the real ones.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path

import structlog
import uvloop

from batchmill.app.worker import collect_seldom
from batchmill.blobs.local import LocalBlobs
from batchmill.calls import Call, Flight, Reply
from batchmill.clock import SystemClock, new_id
from batchmill.core.lines import LineRules
from batchmill.core.rules import Stores
from batchmill.core.worker import Worker
from batchmill.dialects.formats import FORMATS
from batchmill.engines.replies import classify
from batchmill.fleet import EngineSpec
from batchmill.ledger import SqlLedger
from batchmill.model import (
    DEFAULT_TENANT,
    TERMINAL,
    BlobName,
    Dialect,
    File,
    FileId,
    FileSource,
    Job,
    JobId,
    JobInput,
    JobState,
)
from batchmill.ports import Ledger
from bench.inputs import ENDPOINT, MODEL, answer, write_input
from bench.server import IN_FLIGHT

_HEADERS = {"content-type": "application/json"}
_LOOK_SECONDS = 0.1
"""Looking costs CPU too, which is not the worker's."""


class AtOnce:
    """Implements `calls.Transport` and `calls.Flight`: the reply lands in the loop's next turn,
    and is classified as that of an engine would be."""

    def __init__(self) -> None:
        self._loop, self._answer = asyncio.get_running_loop(), answer()

    def send(self, call: Call, landed: Callable[[Reply], None]) -> Flight:  # noqa: ARG002 - the port's
        self._loop.call_soon(self._land, landed)
        return self

    def _land(self, landed: Callable[[Reply], None]) -> None:
        landed(classify(200, _HEADERS.get, self._answer, now=0.0))

    def abort(self) -> None:
        """Nothing is ever out for longer than a turn of the loop."""

    async def models(self) -> tuple[str, ...]:
        return (MODEL,)

    async def load(self) -> None:
        """It tells nothing."""

    async def close(self) -> None:
        """Nothing to let go of."""


async def _run(directory: Path, lines: int) -> float:
    """CPU seconds for each line of the second of two jobs."""
    clock, path = SystemClock(), directory / "ledger.sqlite"

    async def opened() -> Ledger:
        return await SqlLedger.open(path, clock=clock)

    ledger, blobs = await opened(), LocalBlobs(directory / "blobs")
    spec = EngineSpec("bench", "http://in.process/v1", concurrency=IN_FLIGHT)
    stores = Stores(ledger, blobs, opened)
    worker = Worker("bench", stores, [(spec, AtOnce())], {}, FORMATS, LineRules(), clock)
    stop = asyncio.Event()
    batch = await _input(ledger, directory / "blobs", lines)
    async with asyncio.TaskGroup() as life:
        life.create_task(worker.run(stop))
        await _job(ledger, worker, batch)
        began = time.process_time()
        await _job(ledger, worker, batch)
        took = time.process_time() - began
        stop.set()
    await ledger.close_connections()
    return took / lines


async def _input(ledger: Ledger, blobs: Path, lines: int) -> JobInput:
    """A batch file of that many lines, as an upload leaves it."""
    blob = BlobName("inputs/bench")
    (blobs / "inputs").mkdir(parents=True)
    size = write_input(blobs / blob, lines).stat().st_size
    file, source = FileId(new_id()), FileSource.UPLOAD
    upload = File(file, DEFAULT_TENANT, "b.jsonl", "batch", source, size, 0.0, lines=lines)
    await ledger.add_file(upload)
    return JobInput(file, "b.jsonl", blob, size, lines)


async def _job(ledger: Ledger, worker: Worker, batch: JobInput) -> None:
    """Run one job over that input to its end."""
    name = JobId(new_id())
    job = Job(
        name,
        DEFAULT_TENANT,
        Dialect.MISTRAL,
        ENDPOINT,
        JobState.VALIDATING,
        0.0,
        86_400.0,
        batch.lines,
        model=MODEL,
        input_files=(batch.file,),
    )
    await ledger.create_job(job, [batch], None)
    worker.wake()
    while not await _is_over(ledger, name, batch.lines):  # noqa: ASYNC110 - as a user would
        await asyncio.sleep(_LOOK_SECONDS)


async def _is_over(ledger: Ledger, name: JobId, lines: int) -> bool:
    job = await ledger.job(DEFAULT_TENANT, name)
    assert job is not None
    assert job.state not in TERMINAL or job.succeeded == lines
    return job.state in TERMINAL


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    collect_seldom()
    print(uvloop.run(_run(Path(sys.argv[1]), int(sys.argv[2]))) * 1e6)
