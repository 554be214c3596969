"""Parts of the work in a loop of their own, in a process of their own.

    python -m bench.alone send ORIGIN N RATE   the transport, with its reading of the reply
    python -m bench.alone reply N              reading the reply, without a transport
    python -m bench.alone line N               opening an input line and writing its result line
    python -m bench.alone decode FILE          reading and decoding a file with msgspec
    python -m bench.alone check FILE           checking a file as `batchmill validate` does

Each prints the CPU it took, in microseconds for each line.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import uvloop

from batchmill.calls import Answered, Call, Reply
from batchmill.cli.checks import check, opened
from batchmill.clock import SystemClock
from batchmill.core.lines import open_line, with_model
from batchmill.dialects.mistral.lines import MistralLines
from batchmill.engines.budget import ByteBudget
from batchmill.engines.replies import classify
from batchmill.engines.transport import HttpTransport
from batchmill.fleet import EngineSpec
from batchmill.model import (
    DEFAULT_TENANT,
    Dialect,
    Fate,
    Job,
    JobId,
    JobState,
    Outcome,
)
from bench.inputs import ENDPOINT, MODEL, answer, body, line
from bench.server import IN_FLIGHT

_BUDGET_BYTES = 96_000_000


class Pace:
    """Lets so many calls a second pass; the time between them is burnt, not slept away, as a
    worker would do its other work in it."""

    def __init__(self, rate: float) -> None:
        self._step = 1 / rate
        self._next = time.perf_counter()
        self.burnt = 0.0
        """CPU seconds that were only waiting."""

    def keep(self) -> None:
        """Wait for the next call's turn."""
        began = time.thread_time()
        self._next = max(self._next + self._step, time.perf_counter() - IN_FLIGHT * self._step)
        while time.perf_counter() < self._next:
            pass
        self.burnt += time.thread_time() - began


class _Load:
    """Keeps so many calls in flight until a number of them have been answered."""

    def __init__(self, transport: HttpTransport, budget: ByteBudget) -> None:
        self._transport, self._budget = transport, budget
        self._call = Call(ENDPOINT, body(0), 600.0)

    async def run(self, count: int, rate: float) -> float:
        """Send so many calls; the CPU seconds that were only waiting for the pace."""
        self._to_send, self._to_land, self._pace = count, count, Pace(rate)
        self._done = asyncio.Event()
        for _ in range(min(IN_FLIGHT, count)):
            self._next()
        await self._done.wait()
        return self._pace.burnt

    def _next(self) -> None:
        self._to_send -= 1
        self._transport.send(self._call, self._landed)

    def _landed(self, reply: Reply) -> None:
        assert isinstance(reply, Answered)
        self._budget.release(reply.held_bytes)
        self._pace.keep()
        self._to_land -= 1
        if self._to_send > 0:
            self._next()
        elif self._to_land == 0:
            self._done.set()


async def _send(origin: str, count: int, rate: float) -> float:
    spec = EngineSpec("bench", f"{origin}/v1", concurrency=IN_FLIGHT)
    budget = ByteBudget(_BUDGET_BYTES)
    transport = HttpTransport(spec, SystemClock(), budget)
    load = _Load(transport, budget)
    await load.run(2 * IN_FLIGHT, rate)
    began = time.process_time()
    burnt = await load.run(count, rate)
    took = time.process_time() - began - burnt
    await transport.close()
    return took / count


def _reply(count: int) -> float:
    raw, headers = answer(), {"content-type": "application/json"}
    return _timed(lambda: classify(200, headers.get, raw, now=0.0), count)


def _line(count: int) -> float:
    raw, reply, formats = line(0), answer(), MistralLines()
    job = Job(
        JobId("00000000-0000-4000-8000-000000000000"),
        DEFAULT_TENANT,
        Dialect.MISTRAL,
        ENDPOINT,
        JobState.RUNNING,
        0.0,
        0.0,
        1,
        model=MODEL,
    )

    def one() -> None:
        custom_id, sent = open_line(raw)
        with_model(sent, MODEL)
        formats.result(job, 0, custom_id, Outcome(Fate.SUCCEEDED, 200, reply))

    return _timed(one, count)


def _timed(work: Callable[[], object], count: int) -> float:
    began = time.process_time()
    for _ in range(count):
        work()
    return (time.process_time() - began) / count


class _Line(msgspec.Struct):
    custom_id: str
    body: msgspec.Raw


def _decode(path: Path) -> float:
    decode = msgspec.json.Decoder().decode
    began, count = time.process_time(), 0
    with path.open("rb") as file:
        for raw in file:
            decode(raw)
            count += 1
    return (time.process_time() - began) / count


def _check(path: Path) -> float:
    began = time.process_time()
    with opened(str(path)) as file:
        checked = check(file, None)
    assert checked.lines
    assert not checked.bad
    return (time.process_time() - began) / checked.lines


def main(arguments: list[str]) -> float:
    """Run the part that the arguments name; CPU seconds for each line."""
    match arguments:
        case ["send", origin, count, rate]:
            return uvloop.run(_send(origin, int(count), float(rate)))
        case ["reply", count]:
            return _reply(int(count))
        case ["line", count]:
            return _line(int(count))
        case ["decode", path]:
            return _decode(Path(path))
        case ["check", path]:
            return _check(Path(path))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    print(main(sys.argv[1:]) * 1e6)
