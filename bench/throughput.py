"""CPU for each line beside wrk's for each request, round by round on the same nginx."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from bench import wrk
from bench.inputs import write_input
from bench.processes import measured_loop
from bench.server import IN_FLIGHT, Server, batchmill
from bench.table import Place, Row, Section, at_most

JOB_SECONDS = 240.0
_READING = (
    "Each round runs wrk, a whole job, the same job without a transport and the parts alone, one "
    "after the other; the ratios are taken within a round, and the table shows their median. *All "
    "but the transport* is measured in place: a whole worker over the real ledger and the real "
    "blobs, whose engine answers at once in its own process; *transport in place* is the "
    "worker's CPU less that. Beside it stands the *transport alone*, a loop of nothing but calls, "
    "less the reading of their replies, at the job's own pace (what it waits is burnt and taken "
    "off). It costs less than in place, where it shares the caches and the interpreter's lock "
    "with all else, so the worker less the transport alone is a larger number; it is shown too. "
    "*Lines* is opening an input line, reading a reply and writing a result line; *durability* is "
    "group commits, segments and the ledger: each in a loop of its own. *Validation* is the "
    "worker's CPU until the job is queued, and *dispatch* what is left of all but the transport: "
    "choosing the next line, leases, beats."
)


@dataclass(frozen=True, slots=True)
class Round:
    """One round; CPU in microseconds for each request or line."""

    wrk: float
    wrk_rate: float
    worker: float
    validation: float
    api: float
    send: float
    reply: float
    line: float
    durability: float
    in_process: float
    lines_per_second: float

    @property
    def transport(self) -> float:
        return self.worker - self.in_process

    @property
    def transport_alone(self) -> float:
        return self.send - self.reply

    @property
    def lines(self) -> float:
        return self.reply + self.line

    @property
    def dispatch(self) -> float:
        return self.in_process - self.validation - self.lines - self.durability


def measure(place: Place) -> Section:
    """Interleaved rounds of wrk, Batchmill and its parts alone."""
    batch = write_input(place.home / "lines.jsonl", place.scale.lines)
    with batchmill(f"{place.origin}/v1", place.home, "throughput") as server:
        file = server.upload(batch)
        server.finish(server.create(file), JOB_SECONDS)
        rounds = [_round(place, server, file) for _ in range(place.scale.rounds)]
    return Section(
        "CPU for each line", _READING, _rows(rounds), {"rounds": list(map(asdict, rounds))}
    )


def _round(place: Place, server: Server, file: str) -> Round:
    limit = wrk.run(place.origin, place.home, IN_FLIGHT, place.scale.wrk_seconds)
    worker, validation, api, rate = _job(server, file, place.scale.lines)
    loop, lines = str(place.scale.loop), str(place.scale.lines)
    ledger, mill = (Path(tempfile.mkdtemp(dir=place.home)) for _ in range(2))
    return Round(
        limit.cpu_us,
        limit.requests_per_second,
        worker,
        validation,
        api,
        measured_loop("bench.alone", "send", place.origin, loop, str(rate)),
        measured_loop("bench.alone", "reply", loop),
        measured_loop("bench.alone", "line", loop),
        measured_loop("bench.durability", str(ledger), loop),
        measured_loop("bench.inprocess", str(mill), lines),
        rate,
    )


def _job(server: Server, file: str, lines: int) -> tuple[float, float, float, float]:
    """One job: the CPU of the worker, of it in validation, and of the rest of Batchmill, in
    microseconds for each line; lines a second from the first claim to the end."""
    before = server.cpu()
    job = server.create(file)
    server.leave(job, "validating", JOB_SECONDS)
    validated = server.cpu()
    life = server.finish(job, JOB_SECONDS)
    after = server.cpu()
    assert life.started is not None
    assert life.ended is not None

    def spent(role: str, until: dict[str, float]) -> float:
        return (until[role] - before[role]) / lines * 1e6

    others = sum(spent(role, after) for role in after if role != "worker")
    rate = lines / (life.ended - life.started)
    return spent("worker", after), spent("worker", validated), others, rate


def _rows(rounds: list[Round]) -> list[Row]:
    def times(part: Callable[[Round], float]) -> str:
        us = median(map(part, rounds))
        return f"{us:.1f} us, {median(part(r) / r.wrk for r in rounds):.2f} x wrk"

    whole = median(r.worker / r.wrk for r in rounds)
    ours = median(r.in_process / r.wrk for r in rounds)
    return [
        Row("wrk, each request", f"{median(r.wrk for r in rounds):.2f} us"),
        Row("worker, each line", times(lambda r: r.worker)),
        at_most("worker, each line, all but the transport", ours, 4.0, " x wrk", 2),
        at_most("worker, each line, in all", whole, 4.0, " x wrk", 2),
        Row("- transport in place", times(lambda r: r.transport)),
        Row("- lines", times(lambda r: r.lines)),
        Row("- validation", times(lambda r: r.validation)),
        Row("- durability", times(lambda r: r.durability)),
        Row("- dispatch", times(lambda r: r.dispatch)),
        Row("transport alone", times(lambda r: r.transport_alone)),
        Row("worker less the transport alone", times(lambda r: r.worker - r.transport_alone)),
        Row("API and supervisor, each line", times(lambda r: r.api)),
        Row("lines a second, 256 in flight", f"{median(r.lines_per_second for r in rounds):,.0f}"),
        Row("wrk's requests a second", f"{median(r.wrk_rate for r in rounds):,.0f}"),
    ]
