"""The API process: serves HTTP on the socket that it inherits, and wakes the worker."""

from __future__ import annotations

import contextlib
import socket

import uvicorn
import uvloop

from batchmill.app.orders import Orders
from batchmill.app.stores import open_blobs, open_ledger
from batchmill.clock import SystemClock
from batchmill.config import Role, Settings
from batchmill.core.models import Catalogue
from batchmill.core.submit import Limits
from batchmill.dialects import ROUTERS
from batchmill.fleet import EngineSpec, EngineState, EngineStatus
from batchmill.ports import Ledger
from batchmill.telemetry import configure_logs
from batchmill.web.api import ApiRules, KeyMode, create_api
from batchmill.webhooks.guard import Guard, SystemResolver

GRACE_SECONDS = 6
"""How long requests may take to end once the process is asked to."""


async def run_api(orders: Orders) -> None:
    """Serve until SIGTERM, then let the requests at hand end."""
    settings = orders.settings
    assert orders.listen_fd is not None
    listener, bell = socket.socket(fileno=orders.listen_fd), socket.socket(fileno=orders.wake_fd)
    bell.setblocking(False)

    def wake() -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            bell.send(b"w")  # a full queue says it as well

    ledger = await open_ledger(settings)
    try:
        api = create_api(
            ledger,
            open_blobs(settings),
            Engines(ledger, settings, orders.engines).catalogue,
            rules_of(settings),
            SystemClock(),
            wake,
            ROUTERS,
            webhooks=guard_of(orders),
        )
        config = uvicorn.Config(
            api,
            http="httptools",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        await uvicorn.Server(config).serve(sockets=[listener])
    finally:
        await ledger.close_connections()


class Engines:
    """The configured engines as the ledger knows them."""

    def __init__(self, ledger: Ledger, settings: Settings, specs: tuple[EngineSpec, ...]) -> None:
        self._ledger, self._aliases, self._specs = ledger, settings.models, specs
        self._knows_all = settings.role is Role.ALL

    async def catalogue(self) -> Catalogue:
        """What may be asked for now. An engine that no worker has reported yet is unknown."""
        seen = {engine.name: engine for engine in await self._ledger.engines()}
        if not self._specs and not self._knows_all:
            return Catalogue(self._aliases, tuple(seen.values()))
        return Catalogue(
            self._aliases,
            tuple(
                seen.get(spec.name)
                or EngineStatus(spec.name, spec.kind, EngineState.UNKNOWN, simulated=spec.simulated)
                for spec in self._specs
            ),
        )


def guard_of(orders: Orders) -> Guard | None:
    """Which webhooks may be asked for; None without a secret to sign them with."""
    allowed = orders.settings.webhook_allow_hosts
    return Guard(allowed, SystemResolver()) if orders.webhook_secrets else None


def rules_of(settings: Settings) -> ApiRules:
    """The settings that concern the API."""
    mode = KeyMode.LOOPBACK if settings.on_loopback else KeyMode.REQUIRED
    return ApiRules(
        limits=Limits(
            job_lines=settings.max_job_lines,
            file_bytes=settings.max_file_size,
            inline_requests=settings.max_inline_requests,
            line_bytes=settings.max_line_size,
        ),
        key_mode=KeyMode.INSECURE if settings.insecure else mode,
        public_url=settings.public_url,
        keep_uploads_seconds=settings.keep_uploads.total_seconds(),
        keep_results_seconds=settings.keep_results.total_seconds(),
        low_disk_bytes=settings.low_disk,
    )


if __name__ == "__main__":
    configure_logs("api")
    uvloop.run(run_api(Orders.read()))
