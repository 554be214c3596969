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
from dataclasses import dataclass, field
from typing import Final

import structlog

from batchmill.app.listen import free_port
from batchmill.app.orders import Orders
from batchmill.app.supervise import Child
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


def check_extras(engines: Sequence[EngineSetting]) -> None:
    """Raise `ConfigError` where an engine needs what is not installed."""
    wants_local = any(engine.embedded == "local" for engine in engines)
    if wants_local and importlib.util.find_spec("xllamacpp") is None:
        missing = "needs an extra: pip install 'batchmill[local]'"
        raise ConfigError([Problem("engines", f"local {missing}")])


@dataclass(frozen=True, slots=True)
class Children:
    """The children of one parent.

    `worker_name` is what the ledger calls its worker, through all lives of it. `bells` are the
    ends that the API rings and that whoever works hears; `lock` is inherited by all.
    """

    settings: Settings
    ledger: Ledger
    worker_name: str
    lock: int | None = None
    bells: tuple[int, int] | None = None
    listener: socket.socket | None = None
    ports: dict[str, int] = field(default_factory=dict)
    """Where each embedded engine listens, by its name."""

    def engines(self) -> list[Child]:
        """The embedded engines."""
        children: list[Child] = []
        for engine in self.settings.engines:
            if engine.embedded is not None:
                port = self.ports.setdefault(engine.name, free_port())
                arguments = ["--port", str(port)]
                if engine.argument:
                    option = "--model" if engine.embedded == "local" else "--spec"
                    arguments += [option, engine.argument]
                if engine.embedded == "local" and engine.concurrency is not None:
                    arguments += ["--parallel", str(engine.concurrency)]
                module = f"batchmill.engines.{engine.embedded}"
                name = f"engine:{engine.name}"
                children.append(Child(name, module, tuple(arguments), fds=self._fds()))
        return children

    def engine_specs(self) -> tuple[EngineSpec, ...]:
        """All engines, the embedded ones with the places they were given."""
        return tuple(
            engine.at(
                f"http://127.0.0.1:{self.ports.get(engine.name, 0)}/v1"
                if engine.embedded
                else engine.url,
                self.settings.engine_key,
            )
            for engine in self.settings.engines
        )

    def api(self) -> Child:
        """The API, on the listener."""
        assert self.listener is not None
        assert self.bells is not None
        listen_fd, wake_fd = self.listener.fileno(), self.bells[0]
        orders = self._orders(self.engine_specs(), wake_fd=wake_fd, listen_fd=listen_fd)
        fds = self._fds(listen_fd, wake_fd)
        return Child("api", "batchmill.app.api", (), orders.encoded(), fds)

    def worker(self) -> Child:
        """The worker. Its parent knows when it has died, and then opens its leases at once."""
        return self._works("worker", self.engine_specs())

    def housekeeper(self) -> Child:
        """A worker without engines, for API processes that have no worker beside them."""
        return self._works("housekeeper", ())

    async def engines_accept(self) -> None:
        """Wait a while for the embedded engines, so that the worker's first look finds them."""
        await asyncio.gather(*(_accepts(port) for port in self.ports.values()))

    def _works(self, name: str, engines: Sequence[EngineSpec]) -> Child:
        wake_fd = self.bells[1] if self.bells else None
        orders = self._orders(engines, wake_fd=wake_fd)
        fds = self._fds() if wake_fd is None else self._fds(wake_fd)
        module = f"batchmill.app.{name}"
        return Child(name, module, (), orders.encoded(), fds, self._worker_died)

    def _orders(
        self, engines: Sequence[EngineSpec], *, wake_fd: int | None, listen_fd: int | None = None
    ) -> Orders:
        return Orders.of(
            self.settings,
            engines,
            worker=self.worker_name,
            wake_fd=wake_fd,
            listen_fd=listen_fd,
        )

    def _fds(self, *own: int) -> tuple[int, ...]:
        return own if self.lock is None else (self.lock, *own)

    async def _worker_died(self) -> None:
        try:
            await self.ledger.release_worker(self.worker_name, struck=True)
        except LedgerError as e:
            log.warning("release_failed", worker=self.worker_name, error=str(e))


async def _accepts(port: int) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ENGINE_UP_SECONDS):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    return
                await asyncio.sleep(_POLL_SECONDS)
