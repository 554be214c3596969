"""Hits of a prefix cache when shuffled jobs go through the whole program, beside file order, beside
the best order of the lines that were open, and beside the best order of the whole job."""

from __future__ import annotations

import re
import sys
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from bench import llamacpp
from bench.inputs import MODEL
from bench.processes import Failure, free_port, listens, running, wait_until
from bench.server import Server, batchmill_with_engines
from bench.table import Place, Row, Section, at_least, at_most
from bench.templates import Batch, Opening, best_of_open, cache_blocks, grouped, hits, shuffled

LINES: Final = 10_000
TEMPLATES: Final = (50, 2_000)
TEMPLATE_BYTES: Final = 1_200
HELD: Final = 4
"""So many templates the simulated cache holds."""
JOB_SECONDS: Final = 120.0
LOOK_SECONDS: Final = 0.01
_IN_FLIGHT: Final = 64
_LATENCY: Final = "10ms"
_READING = (
    f"Shuffled jobs of {LINES:,} lines over 50 and over 2,000 templates of {TEMPLATE_BYTES:,} "
    f"bytes, {_IN_FLIGHT} calls in flight, against simulated engines whose prefix cache holds "
    f"{HELD} templates; hits are the cached tokens that the engines count. *File order* and the "
    "two oracles are the same cache filled line by line: *open lines* takes, of the lines that "
    "were open at each moment (the claims as the ledger had them every 10 ms, each dated back to "
    "the look before), one whose template is cached, else one of the template with the most open "
    "lines; *whole job* sends all lines of a template, then the next. llama.cpp is real, with the "
    "demo model; there *file order* is a client that sends the same requests as the file has them, "
    "as many at once."
)


@dataclass(frozen=True, slots=True)
class Hits:
    """Cached tokens of one job in each order, and the most memory that its worker had."""

    ours: int
    file_order: int
    open_lines: int
    whole_job: int
    worker_bytes: int


def measure(place: Place) -> Section:
    """One engine, and two."""
    rows: list[Row] = []
    figures: dict[str, object] = {}
    for templates in TEMPLATES:
        batch = shuffled(LINES, templates, TEMPLATE_BYTES)
        path = batch.write(place.home / f"templates-{templates}.jsonl")
        found = {number: _hits(place, batch, path, number) for number in (1, 2)}
        rows += _rows(templates, found)
        figures[str(templates)] = {number: asdict(each) for number, each in found.items()}
    rows += llamacpp.rows(place)
    return Section("Prefix order", _READING, rows, figures)


def _rows(templates: int, found: dict[int, Hits]) -> list[Row]:
    one, two = found[1], found[2]
    what = f"{templates:,} templates:"
    return [
        at_least(
            f"{what} hits, of the best of the open lines", 100 * one.ours / one.open_lines, 95, " %"
        ),
        Row(f"{what} of the best of the whole job", f"{100 * one.ours / one.whole_job:.1f} %"),
        Row(f"{what} file order, of the same", f"{100 * one.file_order / one.whole_job:.1f} %"),
        at_least(f"{what} two engines, of what one hits", 100 * two.ours / one.ours, 95, " %"),
        at_most(f"{what} worker's memory", one.worker_bytes / 1e6, 250, " MB", 0),
    ]


def _hits(place: Place, batch: Batch, path: Path, engines: int) -> Hits:
    """One job through a fresh server with that many fresh engines."""
    blocks = cache_blocks(batch, HELD)
    spec = f"latency={_LATENCY},models={MODEL},prefix_blocks={blocks},marked=no"
    with ExitStack() as stack:
        sims = [stack.enter_context(simulator(place.home, spec)) for _ in range(engines)]
        name = f"prefix-{len(batch.templates)}-{engines}"
        server = stack.enter_context(batchmill_with_engines(_config(sims), place.home, name))
        job = server.create(server.upload(path))
        watch = Openings(server, job, sims)
        server.finish(job, JOB_SECONDS)
        openings = watch.stop()
        ours = sum(_cached(sim) for sim in sims)
        peak = server.peaks()["worker"]
    return Hits(
        ours,
        hits(batch, range(len(batch.chosen)), blocks),
        hits(batch, best_of_open(batch, openings, HELD), blocks),
        hits(batch, grouped(batch), blocks),
        peak,
    )


def _config(sims: Sequence[str]) -> str:
    return "".join(
        f'[[engines]]\nname = "sim{n}"\nurl = "{sim}/v1"\nconcurrency = {_IN_FLIGHT}\n'
        for n, sim in enumerate(sims)
    )


class Openings:
    """Looks at the ledger and at the engines until it is stopped: which lines were claimed when
    so many had been sent."""

    def __init__(self, server: Server, job: str, sims: Sequence[str]) -> None:
        self._server, self._job, self._sims = server, job, sims
        self._found: dict[range, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> list[Opening]:
        """What was found, in all."""
        self._stop.set()
        self._thread.join()
        return [Opening(sent, lines) for lines, sent in self._found.items()]

    def _watch(self) -> None:
        before = 0
        while True:
            is_last = self._stop.is_set()
            for lines in self._server.claimed(self._job):
                self._found.setdefault(lines, before)
            before = sum(_sent(sim) for sim in self._sims)
            if is_last:
                return
            self._stop.wait(LOOK_SECONDS)


@contextmanager
def simulator(home: Path, spec: str) -> Iterator[str]:
    """The origin of a simulator that runs while the block lasts."""
    port = free_port()
    command = [sys.executable, "-m", "batchmill.engines.sim", "--port", str(port), "--spec", spec]
    with running(command, home / "sim.out"):
        wait_until(lambda: listens(port), 10, "the start of the simulator")
        yield f"http://127.0.0.1:{port}"


def _sent(sim: str) -> int:
    found = re.search(r'"total":(\d+)', _page(f"{sim}/sim/calls"))
    return int(found[1]) if found else 0


def _cached(sim: str) -> int:
    found = re.search(r"prefix_cache_hits_total\S* (\d+)", _page(f"{sim}/metrics"))
    if found is None:
        raise Failure("the simulator counts no hits")
    return int(found[1])


def _page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as response:  # noqa: S310 - our own engine
        return str(response.read().decode())
