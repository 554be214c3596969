"""The figures of `GET /metrics`. Labels are bounded: routes by template, never a tenant or job."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import Scope

from batchmill.core.enginesums import EngineSum, sums
from batchmill.core.models import Catalogue
from batchmill.errors import LedgerError
from batchmill.fleet import EngineState, Worker
from batchmill.model import (
    JobState,
)
from batchmill.ports import Blobs, Ledger

_METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"})
_OF_ENGINES = {
    "up": "Whether the engine answers",
    "in_flight": "Lines at this engine",
    "window": "Lines that this engine may have at once",
    "running": "Calls of anybody's that the engine says it works on",
    "waiting": "Calls of anybody's that the engine says wait in it",
}
_SECONDS = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 600.0)


class Meter:
    """The figures of one API process and, read at each scrape, of the whole installation."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Counter(
            "batchmill_http_requests",
            "Requests answered",
            ["method", "route", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "batchmill_http_request_seconds",
            "Time to answer a request",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._up = Gauge("batchmill_ledger_up", "Whether the ledger answers", registry=registry)
        self._jobs = Gauge("batchmill_jobs", "Jobs", ["state"], registry=registry)
        self._open = Gauge(
            "batchmill_open_lines", "Lines of unfinished jobs without outcome", registry=registry
        )
        self._workers = Gauge("batchmill_workers", "Workers alive", registry=registry)
        self._in_flight = Gauge(
            "batchmill_lines_in_flight", "Lines at an engine now", registry=registry
        )
        self._retrying = Gauge(
            "batchmill_lines_retrying", "Lines that wait for another try", registry=registry
        )
        self._rate = Gauge("batchmill_lines_per_second", "Lines finished", registry=registry)
        self._engines = {
            name: Gauge(f"batchmill_engine_{name}", says, ["engine"], registry=registry)
            for name, says in _OF_ENGINES.items()
        }
        self._deliveries = Gauge(
            "batchmill_webhook_deliveries", "Webhook deliveries", ["state"], registry=registry
        )
        self._free = Gauge("batchmill_storage_free_bytes", "Room left for blobs", registry=registry)

    def observe(self, scope: Scope, status: int | None, seconds: float) -> None:
        """Count one request."""
        route = getattr(scope.get("route"), "path", "unknown")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._requests.labels(method, route, str(status or 0)).inc()
        self._seconds.labels(route).observe(seconds)

    async def read(
        self, ledger: Ledger, blobs: Blobs, catalogue: Callable[[], Awaitable[Catalogue]]
    ) -> bytes:
        """Everything in Prometheus' text format; without the ledger, what is known without it."""
        try:
            workers = await self._read_ledger(ledger)
            self._read_engines(sums(workers, (await catalogue()).engines))
            self._up.set(1)
        except LedgerError:
            self._up.set(0)
        free = await blobs.free_bytes()
        if free is not None:
            self._free.set(free)
        return generate_latest(self.registry)

    async def _read_ledger(self, ledger: Ledger) -> list[Worker]:
        by_state = await ledger.jobs_by_state()
        for state in JobState:
            self._jobs.labels(state.value).set(by_state.get(state, 0))
        for told, number in (await ledger.deliveries_by_state()).items():
            self._deliveries.labels(told.value).set(number)
        self._open.set(await ledger.open_lines())
        alive = [worker for worker in await ledger.workers() if worker.alive]
        gauges = [gauge for worker in alive for gauge in worker.beat.gauges.values()]
        self._workers.set(sum(worker.beat.sends for worker in alive))
        self._in_flight.set(sum(gauge.in_flight for gauge in gauges))
        self._retrying.set(sum(gauge.retrying for gauge in gauges))
        self._rate.set(sum(gauge.lines_per_second for gauge in gauges))
        return alive

    def _read_engines(self, engines: Sequence[EngineSum]) -> None:
        for gauge in self._engines.values():
            gauge.clear()
        for seen in (engine.seen for engine in engines):
            figures = {
                "up": seen.state is EngineState.UP,
                "in_flight": seen.in_flight,
                "window": seen.window,
                "running": seen.running,
                "waiting": seen.waiting,
            }
            for name, figure in figures.items():
                if figure is not None:
                    self._engines[name].labels(seen.name).set(figure)
