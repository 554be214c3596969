"""The API process: serves HTTP on the socket that it inherits, and wakes the worker."""

from __future__ import annotations

import contextlib
import logging
import socket
from types import FrameType

import uvicorn
import uvloop
from fastapi import FastAPI

from batchmill.app.orders import Orders
from batchmill.app.stopping import notice_seconds, requests_seconds
from batchmill.app.stores import open_blobs, open_ledger
from batchmill.clock import Clock, SystemClock
from batchmill.config import Settings
from batchmill.core.models import Catalogue
from batchmill.core.submit import Limits
from batchmill.dialects.routers import ROUTERS
from batchmill.fleet import EngineState, EngineStatus
from batchmill.ports import Ledger
from batchmill.telemetry import configure_logs
from batchmill.web.api import ApiRules, KeyMode, begin_draining, create_api
from batchmill.web.connections import PromptProtocol
from batchmill.webhooks.guard import Guard, SystemResolver


async def run_api(orders: Orders) -> None:
    """Serve until SIGTERM, then let the requests at hand end."""
    settings, clock = orders.settings, SystemClock()
    assert orders.listen_fd is not None
    listener = socket.socket(fileno=orders.listen_fd)
    bells = [socket.socket(fileno=fd) for fd in orders.wake_fds]
    for bell in bells:
        bell.setblocking(False)

    def wake() -> None:
        for bell in bells:
            with contextlib.suppress(BlockingIOError, ConnectionError):
                bell.send(b"w")  # a full queue says it as well

    ledger = await open_ledger(settings)
    engines = Engines(ledger, orders)
    Orders.follow(engines.take)
    try:
        api = create_api(
            ledger,
            open_blobs(settings),
            engines.catalogue,
            rules_of(settings),
            clock,
            wake,
            ROUTERS,
            webhooks=guard_of(orders),
        )
        config = uvicorn.Config(
            api,
            http=PromptProtocol,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=max(1, int(requests_seconds(settings))),
        )
        await Server(config, api, clock, notice_seconds(settings)).serve(sockets=[listener])
    finally:
        await ledger.close_connections()


def _is_news(record: logging.LogRecord) -> bool:
    """Whether uvicorn tells more than that an exception left the app, which has logged it."""
    return not str(record.msg).startswith("Exception in ASGI application")


class Server(uvicorn.Server):
    """Asked to end it says so at `/readyz`, and goes on taking requests for as long as others may
    need to hear of it. Then it closes its socket and lets the requests at hand end."""

    def __init__(
        self, config: uvicorn.Config, api: FastAPI, clock: Clock, notice_seconds: float
    ) -> None:
        super().__init__(config)
        logging.getLogger("uvicorn.error").addFilter(_is_news)
        self._api, self._clock, self._notice_seconds = api, clock, notice_seconds
        self._asked_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's
        if self._asked_at is None:
            self._asked_at = self._clock.boot()
            begin_draining(self._api)

    async def on_tick(self, counter: int) -> bool:
        asked_at, now = self._asked_at, self._clock.boot()
        if asked_at is not None and now - asked_at >= self._notice_seconds:
            return True
        return await super().on_tick(counter)


class Engines:
    """The engines that may be asked: those of the settings, and those of workers that joined."""

    def __init__(self, ledger: Ledger, orders: Orders) -> None:
        self._ledger = ledger
        self.take(orders)

    def take(self, orders: Orders) -> None:
        """Go by these orders from now on."""
        self._aliases, self._specs = orders.settings.models, orders.engines

    async def catalogue(self) -> Catalogue:
        """What may be asked for now. An engine that no worker has reported yet is unknown."""
        seen = await self._ledger.engines()
        names = {engine.name for engine in seen}
        unseen = tuple(
            EngineStatus(spec.name, spec.kind, EngineState.UNKNOWN, simulated=spec.simulated)
            for spec in self._specs
            if spec.name not in names
        )
        return Catalogue(self._aliases, (*seen, *unseen))


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
