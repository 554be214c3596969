"""What an actor does: it is the parent of one worker, as `app/work.py` is."""

from __future__ import annotations

import asyncio

import structlog

from batchmill.app.children import Children, check_extras, new_worker_name
from batchmill.app.datadir import make_layout
from batchmill.app.roster import Roster
from batchmill.app.stopping import ENGINES_SECONDS, children_seconds
from batchmill.app.stores import open_ledger
from batchmill.app.supervise import supervising
from batchmill.config import Settings
from batchmill.telemetry import configure_logs

log = structlog.get_logger()


class RayWorker:
    """The actor: one worker and its embedded engines, which end when the actor's process does."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Work until `stop`, then drain."""
        configure_logs("ray-worker")
        check_extras(self._settings.engines)
        make_layout(self._settings.data)
        ledger = await open_ledger(self._settings)
        try:
            await self._work(Children(Roster(self._settings), ledger, [new_worker_name()]))
        finally:
            await ledger.close_connections()

    async def stop(self) -> None:
        """Let `run` come to its end."""
        self._stop.set()

    async def _work(self, children: Children) -> None:
        engines = children.engines()
        async with supervising() as supervisor:
            for child in engines:
                supervisor.start(child)
            await children.engines_accept()
            [worker], [name] = children.workers(), children.names
            supervisor.start(worker)
            log.info("ray_worker_started", worker=name)
            await self._stop.wait()
            await supervisor.stop(["worker"], children_seconds(self._settings))
            await supervisor.stop([child.name for child in engines], ENGINES_SECONDS)
        log.info("ray_worker_ended", worker=name)
