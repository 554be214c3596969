"""`batchmill serve`: the parent of all processes of one machine, from its locks to its last line.

It decides which children there are (`api.py` and `worker.py` are what they do) and what is said
at the start; how they are kept alive stands in `supervise.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from batchmill import __version__
from batchmill.app.datadir import children_lock, locked, make_layout
from batchmill.app.listen import free_port, open_listener, origin, reachable_at
from batchmill.app.orders import Orders
from batchmill.app.stores import WORKER, check_blobs, open_ledger
from batchmill.app.supervise import Child, Supervisor, supervising
from batchmill.config import Role, Settings
from batchmill.enginespec import EngineSetting
from batchmill.errors import ConfigError, LedgerError, Problem
from batchmill.fleet import EngineSpec, EngineState, EngineStatus
from batchmill.ports import Ledger

log = structlog.get_logger()

EARLIER_CHILDREN_SECONDS: Final = 20.0
ENGINES_SEEN_SECONDS: Final = 5.0
ENGINE_UP_SECONDS: Final = 5.0
DRAIN_SECONDS: Final = 8.5
ENGINES_STOP_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.05


def serve(settings: Settings, say: Callable[[str], None] = print) -> int:
    """Run until a signal says stop; the exit code. Raises `ConfigError` or `LedgerError` where it
    cannot begin."""
    _check_extras(settings.engines)
    make_layout(settings.data)
    with locked(settings.data):
        return asyncio.run(_serve(settings, say))


def _check_extras(engines: Sequence[EngineSetting]) -> None:
    wants_local = any(engine.embedded == "local" for engine in engines)
    if wants_local and importlib.util.find_spec("xllamacpp") is None:
        missing = "needs an extra: pip install 'batchmill[local]'"
        raise ConfigError([Problem("engines", f"local {missing}")])


async def _serve(settings: Settings, say: Callable[[str], None]) -> int:
    async with contextlib.AsyncExitStack() as stack:
        lock = await children_lock(settings.data, EARLIER_CHILDREN_SECONDS)
        stack.callback(os.close, lock)
        await check_blobs(settings)
        ledger = await open_ledger(settings)
        stack.push_async_callback(ledger.close_connections)
        await _refuse_open_door(settings, ledger)
        listener = stack.enter_context(open_listener(settings.host, settings.port))
        await ledger.release_worker(WORKER, struck=False)
        wakes = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for end in wakes:
            stack.enter_context(end)
        parts = _Parts(settings, ledger, listener, lock, (wakes[0].fileno(), wakes[1].fileno()))
        return await _run(parts, say)


async def _refuse_open_door(settings: Settings, ledger: Ledger) -> None:
    """No address but loopback without an API key, unless the operator insists."""
    if settings.on_loopback or settings.insecure:
        return
    if not await ledger.keys():
        message = (
            f"{settings.host} can be reached by others and no API key was made; make one with "
            "'batchmill keys create --tenant NAME', or say --insecure"
        )
        raise ConfigError([Problem("host", message)])


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the children are made of."""

    settings: Settings
    ledger: Ledger
    listener: socket.socket
    lock: int
    wakes: tuple[int, int]
    """The API's end, and the worker's."""
    ports: dict[str, int] = field(default_factory=dict)
    """Where each embedded engine listens, by its name."""

    def engine_children(self) -> list[Child]:
        children: list[Child] = []
        if self.settings.role is not Role.ALL:
            return children
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
                children.append(Child(name, module, tuple(arguments), fds=(self.lock,)))
        return children

    def engine_specs(self) -> tuple[EngineSpec, ...]:
        return tuple(
            engine.at(
                f"http://127.0.0.1:{self.ports.get(engine.name, 0)}/v1"
                if engine.embedded
                else engine.url,
                self.settings.engine_key,
            )
            for engine in self.settings.engines
        )

    def api_child(self) -> Child:
        fds = (self.lock, self.listener.fileno(), self.wakes[0])
        orders = Orders.of(self.settings, self.engine_specs(), wake_fd=fds[2], listen_fd=fds[1])
        return Child("api", "batchmill.app.api", (), orders.encoded(), fds)

    def worker_child(self) -> Child:
        orders = Orders.of(self.settings, self.engine_specs(), wake_fd=self.wakes[1])
        fds = (self.lock, self.wakes[1])
        return Child("worker", "batchmill.app.worker", (), orders.encoded(), fds, self._worker_died)

    async def _worker_died(self) -> None:
        try:
            await self.ledger.release_worker(WORKER, struck=True)
        except LedgerError as e:
            log.warning("release_failed", worker=WORKER, error=str(e))


async def _run(parts: _Parts, say: Callable[[str], None]) -> int:
    """Start the children, say where they are, and stop them when a signal comes."""
    stop, hurry = asyncio.Event(), asyncio.Event()
    engines = parts.engine_children()
    async with supervising() as supervisor, asyncio.TaskGroup() as tasks:

        def on_signal() -> None:
            if stop.is_set():
                hurry.set()
                supervisor.kill()
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, on_signal)
        for child in engines:
            supervisor.start(child)
        starting = tasks.create_task(_start(parts, supervisor, say))
        await stop.wait()
        starting.cancel()
        await supervisor.stop(("api", "worker"), DRAIN_SECONDS)
        await supervisor.stop([child.name for child in engines], ENGINES_STOP_SECONDS)
    return 1 if hurry.is_set() else 0


async def _start(parts: _Parts, supervisor: Supervisor, say: Callable[[str], None]) -> None:
    """Start the API and the worker, and say the four lines once they answer."""
    supervisor.start(parts.api_child())
    if parts.settings.role is Role.ALL:
        await asyncio.gather(*(_accepts(port) for port in parts.ports.values()))
        supervisor.start(parts.worker_child())
    await _answers(parts.listener)
    engines = await _engines_seen(parts, supervisor)
    base = parts.settings.public_url or origin(parts.listener)
    say(f"Batchmill {__version__} listens on {origin(parts.listener)}")
    say(f"engines     {_engine_line(engines)}")
    say(f"server_url = {base}     (Mistral's SDKs)")
    say(f"base_url = {base}/v1    (OpenAI's SDKs)")


async def _accepts(port: int) -> None:
    """Wait a while for an embedded engine, so that the worker's first look finds it."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ENGINE_UP_SECONDS):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    return
                await asyncio.sleep(_POLL_SECONDS)


async def _answers(listener: socket.socket) -> None:
    """Wait until the API answers a request."""
    host, port = reachable_at(listener)
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = await reader.read(64)
            writer.close()
            if answer:
                return
        await asyncio.sleep(_POLL_SECONDS)


async def _engines_seen(parts: _Parts, supervisor: Supervisor) -> tuple[EngineStatus, ...]:
    """The engines as the worker first sees them, or what is known when that takes too long."""
    specs = parts.engine_specs()
    unseen = tuple(EngineStatus(spec.name, spec.kind, EngineState.UNKNOWN) for spec in specs)
    if parts.settings.role is not Role.ALL or not specs:
        return unseen
    with contextlib.suppress(TimeoutError, LedgerError):
        async with asyncio.timeout(ENGINES_SEEN_SECONDS):
            while True:
                for worker in await parts.ledger.workers():
                    mine = worker.id == WORKER and worker.pid == supervisor.pid("worker")
                    unseen = worker.beat.engines if mine and worker.beat.engines else unseen
                if all(engine.state is not EngineState.UNKNOWN for engine in unseen):
                    break
                await asyncio.sleep(_POLL_SECONDS)
    return unseen


def _engine_line(engines: Sequence[EngineStatus]) -> str:
    if not engines:
        return "none; add one with --engine http://host:8000/v1, or --engine local for a demo"
    return "; ".join(_described(engine) for engine in engines)


def _described(engine: EngineStatus) -> str:
    match engine.state:
        case EngineState.UP:
            more = f" and {len(engine.models) - 5} more" if len(engine.models) > 5 else ""
            models = ", ".join(engine.models[:5]) + more or "no models"
            return f"{engine.name} serves {models}"
        case EngineState.DOWN:
            return f"{engine.name} is down: {engine.reason or 'no answer'}"
        case _:
            return f"{engine.name} has not answered yet"
