"""The children of one parent: which processes `serve` and `batchmill worker` are made of.

`api.py`, `worker.py` and `housekeeper.py` are what they do, `supervise.py` keeps them alive.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from batchmill.app.orders import Orders
from batchmill.app.roster import Roster
from batchmill.app.supervise import Child, Supervisor
from batchmill.clock import new_id
from batchmill.config import Settings
from batchmill.enginespec import EngineSetting
from batchmill.errors import ConfigError, LedgerError, Problem
from batchmill.fleet import EngineSpec
from batchmill.ports import Ledger

log = structlog.get_logger()

ENGINE_UP_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.05
_HOST_CHARACTERS: Final = 40


def new_worker_name() -> str:
    """A name that no other worker has, in which people find the machine: `<host>-<short id>`."""
    host = re.sub(r"[^A-Za-z0-9-]+", "-", socket.gethostname().partition(".")[0])
    return f"{host[:_HOST_CHARACTERS] or 'host'}-{new_id()[:8]}"


def worker_names(first: str, count: int) -> tuple[str, ...]:
    """What the ledger calls the workers of one parent."""
    return (first, *(f"{first}-{n}" for n in range(2, count + 1)))


def check_extras(engines: Sequence[EngineSetting]) -> None:
    """Raise `ConfigError` where an engine needs what is not installed."""
    wants_local = any(engine.embedded == "local" for engine in engines)
    if wants_local and importlib.util.find_spec("xllamacpp") is None:
        missing = "needs an extra: pip install 'batchmill[local]'"
        raise ConfigError([Problem("engines", f"local {missing}")])


@dataclass(frozen=True, slots=True)
class Children:
    """The children of one parent.

    `names` is what the ledger calls its workers, through all lives of them. `bells` has for each
    of them the end that the API rings and the one that it hears; `lock` is inherited by all.
    """

    roster: Roster
    ledger: Ledger
    names: Sequence[str]
    lock: int | None = None
    bells: Sequence[tuple[int, int]] = ()
    listener: socket.socket | None = None

    @property
    def settings(self) -> Settings:
        """The settings as they are now."""
        return self.roster.settings

    def engines(self) -> list[Child]:
        """The embedded engines."""
        children: list[Child] = []
        for engine in self.settings.engines:
            if engine.embedded is not None:
                port = self.roster.ports[engine.name]
                arguments = ["--port", str(port)]
                if engine.argument:
                    option = "--model" if engine.embedded == "local" else "--spec"
                    arguments += [option, engine.argument]
                if engine.embedded == "local" and engine.fixed_concurrency:
                    arguments += ["--parallel", str(engine.fixed_concurrency)]
                module = f"batchmill.engines.{engine.embedded}"
                name = f"engine:{engine.name}"
                children.append(Child(name, module, tuple(arguments), fds=self._fds()))
        return children

    def api(self) -> Child:
        """The API, on the listener."""
        assert self.listener is not None
        listen_fd, rings = self.listener.fileno(), tuple(ring for ring, _ in self.bells)
        orders = self._orders("", self.roster.specs(), wake_fds=rings, listen_fd=listen_fd)
        fds = self._fds(listen_fd, *rings)
        return Child("api", "batchmill.app.api", (), orders.encoded(), fds)

    def workers(self) -> list[Child]:
        """The workers. Their parent knows when one has died, and then opens its leases at once."""
        specs = self.roster.specs()
        children = worker_names("worker", len(self.names))
        return [self._works(n, child, "worker", specs) for n, child in enumerate(children)]

    def housekeeper(self) -> Child:
        """A worker without engines, for API processes that have no worker beside them."""
        return self._works(0, "housekeeper", "housekeeper", ())

    def tell(self, supervisor: Supervisor) -> None:
        """Tell those that run, and work with engines or show them, which there are now."""
        told = [*self.workers(), *([self.api()] if self.listener is not None else [])]
        for child in told:
            supervisor.tell(child.name, child.orders)

    async def engines_accept(self) -> None:
        """Wait a while for the embedded engines, so that the worker's first look finds them."""
        await asyncio.gather(*(_accepts(port) for port in self.roster.ports.values()))

    def _works(self, n: int, child: str, module: str, engines: Sequence[EngineSpec]) -> Child:
        name, hears = self.names[n], tuple(hear for _, hear in self.bells[n : n + 1])
        orders = self._orders(name, engines, wake_fds=hears)
        died = partial(self._worker_died, name)
        place = f"batchmill.app.{module}"
        return Child(child, place, (), orders.encoded(), self._fds(*hears), died)

    def _orders(
        self,
        worker: str,
        engines: Sequence[EngineSpec],
        *,
        wake_fds: tuple[int, ...],
        listen_fd: int | None = None,
    ) -> Orders:
        return Orders.of(
            self.settings, engines, worker=worker, wake_fds=wake_fds, listen_fd=listen_fd
        )

    def _fds(self, *own: int) -> tuple[int, ...]:
        return own if self.lock is None else (self.lock, *own)

    async def _worker_died(self, name: str) -> None:
        try:
            await self.ledger.release_worker(name, struck=True)
        except LedgerError as e:
            log.warning("release_failed", worker=name, error=str(e))


async def _accepts(port: int) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ENGINE_UP_SECONDS):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    return
                await asyncio.sleep(_POLL_SECONDS)
