"""Processes: starts children, starts again what dies, and stops all of them in order.

Knows nothing of what the children do; `serve.py` says which there are, `launch.py` is how each
begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

log = structlog.get_logger()

FIRST_DELAY_SECONDS: Final = 0.2
LONGEST_DELAY_SECONDS: Final = 10.0
SETTLED_SECONDS: Final = 10.0


async def _nothing() -> None:
    return


@dataclass(frozen=True, slots=True)
class Child:
    """One process to keep running: `python -m MODULE ARGUMENT...` with `orders` on its stdin.

    It inherits the file descriptors `fds`. `died` is awaited each time it has ended by itself,
    before it is started again.
    """

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    orders: str = "{}"
    fds: tuple[int, ...] = ()
    died: Callable[[], Awaitable[None]] = _nothing


@dataclass(slots=True)
class _Running:
    child: Child
    process: asyncio.subprocess.Process | None = None
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


@contextlib.asynccontextmanager
async def supervising() -> AsyncIterator[Supervisor]:
    """A supervisor whose children are kept alive within the block, and killed at its end;
    `stop` is the gentle way."""
    async with asyncio.TaskGroup() as tasks:
        supervisor = Supervisor(tasks)
        try:
            yield supervisor
        finally:
            supervisor.kill()


class Supervisor:
    """Keeps children alive; see `supervising`."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._children: dict[str, _Running] = {}

    def start(self, child: Child) -> None:
        """Start a child and keep it running."""
        running = _Running(child)
        self._children[child.name] = running
        self._tasks.create_task(_keep(running))

    @property
    def names(self) -> frozenset[str]:
        """Of all that were started."""
        return frozenset(self._children)

    def pid(self, name: str) -> int | None:
        """The process id of a child, while it runs."""
        process = self._children[name].process
        return process.pid if process else None

    def tell(self, name: str, orders: str) -> None:
        """Give these orders to a child, and to every later life of it. One that was never started
        is not told."""
        running = self._children.get(name)
        if running is None or running.child.orders == orders:
            return
        running.child = replace(running.child, orders=orders)
        if running.process is not None:
            _write(running.process, orders)

    async def stop(self, names: Collection[str], seconds: float) -> None:
        """Ask these children to end and wait until they have; kills those that take longer."""
        stopping = [running for name, running in self._children.items() if name in names]
        for running in stopping:
            running.stopping.set()
            _signal(running, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for running in stopping:
                    await running.ended.wait()
        for running in stopping:
            if not running.ended.is_set():
                log.warning("child_killed", child=running.child.name, after_seconds=seconds)
                _signal(running, signal.SIGKILL)
                await running.ended.wait()

    def kill(self) -> None:
        """End every child at once."""
        for running in self._children.values():
            running.stopping.set()
            _signal(running, signal.SIGKILL)


async def _keep(running: _Running) -> None:
    """Start the child, and start it again whenever it ends, until it is told to stop."""
    delay = FIRST_DELAY_SECONDS
    clock = asyncio.get_running_loop().time
    while not running.stopping.is_set():
        began = clock()
        ending = await _live_once(running)
        if running.stopping.is_set():
            break
        if clock() - began >= SETTLED_SECONDS:
            delay = FIRST_DELAY_SECONDS
        log.error("child_died", child=running.child.name, ending=ending, again_in_seconds=delay)
        await running.child.died()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await running.stopping.wait()
        delay = min(2 * delay, LONGEST_DELAY_SECONDS)
    running.ended.set()


async def _live_once(running: _Running) -> str:
    """One life of the child; how it ended."""
    try:
        process = await _spawn(running)
    except OSError as e:
        return f"did not start: {e.strerror}"
    if running.stopping.is_set():
        _signal(running, signal.SIGKILL)  # told to stop while it was being started
    code = await process.wait()
    running.process = None
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _signal(running: _Running, number: signal.Signals) -> None:
    if running.process is not None:
        with contextlib.suppress(ProcessLookupError):
            running.process.send_signal(number)


async def _spawn(running: _Running) -> asyncio.subprocess.Process:
    """Start the process in a session of its own, so that only its parent hears Ctrl-C."""
    child = running.child
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "batchmill.app.launch", str(os.getpid())),
        *(child.module, *child.arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        pass_fds=child.fds,
        start_new_session=True,
    )
    running.process = process
    _write(process, running.child.orders)
    log.debug("child_started", child=child.name, pid=process.pid)
    return process


def _write(process: asyncio.subprocess.Process, orders: str) -> None:
    """What a child has not read yet is kept for it."""
    assert process.stdin is not None
    if not process.stdin.is_closing():
        process.stdin.write(orders.encode() + b"\n")
