"""`batchmill serve`: the parent of the processes of one machine, from its locks to its last line.

With a worker beside the API it has its data directory to itself, but for workers and API
processes that join it. Which children there are stands in `children.py`, how they are kept alive
in `supervise.py`; `work.py` is the parent of a worker alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from typing import Final

from batchmill import __version__
from batchmill.app.children import Children, check_extras, new_worker_name
from batchmill.app.datadir import children_lock, locked, make_layout
from batchmill.app.greeting import engine_line, engines_seen, unseen_engines
from batchmill.app.listen import open_listener, origin, reachable_at
from batchmill.app.signals import listen_to_signals
from batchmill.app.stopping import ENGINES_SECONDS, children_seconds
from batchmill.app.stores import WORKER, check_blobs, open_ledger
from batchmill.app.supervise import Child, Supervisor, supervising
from batchmill.config import Role, Settings
from batchmill.errors import ConfigError, Problem
from batchmill.ports import Ledger

EARLIER_CHILDREN_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.05


def serve(settings: Settings, say: Callable[[str], None] = print) -> int:
    """Run until a signal says stop; the exit code. Raises `ConfigError` or `LedgerError` where it
    cannot begin."""
    make_layout(settings.data)
    if settings.role is Role.API:
        return asyncio.run(_serve_api(settings, say))
    check_extras(settings.engines)
    with locked(settings.data):
        return asyncio.run(_serve_all(settings, say))


async def _serve_api(settings: Settings, say: Callable[[str], None]) -> int:
    """An API among others. It owns no leases but those of its housekeeper, which has a name of
    its own, so it needs no lock and waits for nobody."""
    async with contextlib.AsyncExitStack() as stack:
        ledger = await _opened(settings, stack)
        children = _children(settings, ledger, new_worker_name(), None, stack)
        return await _run(children, [], say)


async def _serve_all(settings: Settings, say: Callable[[str], None]) -> int:
    """The API and the worker of a data directory. The worker has the same name through all lives:
    the lock says that the earlier ones are gone, so their leases are opened at once."""
    async with contextlib.AsyncExitStack() as stack:
        lock = await children_lock(settings.data, EARLIER_CHILDREN_SECONDS)
        stack.callback(os.close, lock)
        ledger = await _opened(settings, stack)
        children = _children(settings, ledger, WORKER, lock, stack)
        await ledger.release_worker(WORKER, struck=False)
        return await _run(children, children.engines(), say)


async def _opened(settings: Settings, stack: contextlib.AsyncExitStack) -> Ledger:
    await check_blobs(settings)
    ledger = await open_ledger(settings)
    stack.push_async_callback(ledger.close_connections)
    await _refuse_open_door(settings, ledger)
    return ledger


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


def _children(
    settings: Settings,
    ledger: Ledger,
    worker_name: str,
    lock: int | None,
    stack: contextlib.AsyncExitStack,
) -> Children:
    listener = stack.enter_context(open_listener(settings.host, settings.port))
    bells = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for end in bells:
        stack.enter_context(end)
    fds = (bells[0].fileno(), bells[1].fileno())
    return Children(settings, ledger, worker_name, lock, fds, listener)


async def _run(children: Children, engines: list[Child], say: Callable[[str], None]) -> int:
    """Start the children, say where they are, and stop them when a signal comes."""
    async with supervising() as supervisor:
        told = listen_to_signals(supervisor)
        for child in engines:
            supervisor.start(child)
        async with asyncio.TaskGroup() as tasks:
            starting = tasks.create_task(_start(children, supervisor, say))
            await told.stop.wait()
            starting.cancel()
        assert children.listener is not None
        children.listener.close()  # the API's own is the last: with it connections are refused
        names = ("api", "worker", "housekeeper")
        await supervisor.stop(names, children_seconds(children.settings))
        await supervisor.stop([child.name for child in engines], ENGINES_SECONDS)
    return told.exit_code


async def _start(children: Children, supervisor: Supervisor, say: Callable[[str], None]) -> None:
    """Start the API and who works for it, and say the four lines once they answer."""
    assert children.listener is not None
    works = children.settings.role is Role.ALL
    supervisor.start(children.api())
    if works:
        await children.engines_accept()
    supervisor.start(children.worker() if works else children.housekeeper())
    await _answers(children.listener)
    engines = await engines_seen(children, supervisor) if works else unseen_engines(children)
    base = children.settings.public_url or origin(children.listener)
    say(f"Batchmill {__version__} listens on {origin(children.listener)}")
    say(f"engines     {engine_line(engines) if works or engines else 'those of the workers'}")
    say(f"server_url = {base}     (Mistral's SDKs)")
    say(f"base_url = {base}/v1    (OpenAI's SDKs)")


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
