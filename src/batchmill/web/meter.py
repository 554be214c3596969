"""The figures of `GET /metrics`. Labels are bounded: routes by template, never a tenant or job."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import Scope

from batchmill.core.models import Catalogue
from batchmill.errors import LedgerError
from batchmill.fleet import EngineState
from batchmill.model import (
    JobState,
)
from batchmill.ports import Blobs, Ledger

_METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"})
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
        self._engine_up = Gauge(
            "batchmill_engine_up", "Whether the engine answers", ["engine"], registry=registry
        )
        self._engine_load = Gauge(
            "batchmill_engine_in_flight", "Lines at this engine", ["engine"], registry=registry
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
            await self._read_ledger(ledger)
            self._read_engines(await catalogue())
            self._up.set(1)
        except LedgerError:
            self._up.set(0)
        free = await blobs.free_bytes()
        if free is not None:
            self._free.set(free)
        return generate_latest(self.registry)

    async def _read_ledger(self, ledger: Ledger) -> None:
        by_state = await ledger.jobs_by_state()
        for state in JobState:
            self._jobs.labels(state.value).set(by_state.get(state, 0))
        self._open.set(await ledger.open_lines())
        alive = [worker for worker in await ledger.workers() if worker.alive]
        gauges = [gauge for worker in alive for gauge in worker.beat.gauges.values()]
        self._workers.set(sum(worker.beat.sends for worker in alive))
        self._in_flight.set(sum(gauge.in_flight for gauge in gauges))
        self._retrying.set(sum(gauge.retrying for gauge in gauges))
        self._rate.set(sum(gauge.lines_per_second for gauge in gauges))

    def _read_engines(self, catalogue: Catalogue) -> None:
        self._engine_up.clear()
        self._engine_load.clear()
        for engine in catalogue.engines:
            self._engine_up.labels(engine.name).set(engine.state is EngineState.UP)
            self._engine_load.labels(engine.name).set(engine.in_flight)
