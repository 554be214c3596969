"""`batchmill serve`: the parent of the processes of one machine, from its locks to its last line.

With workers beside the API it has its data directory to itself, but for workers and API
processes that join it. Which children there are stands in `children.py`, how they are kept alive
in `parent.py` and `supervise.py`; `work.py` is the parent of workers alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from batchmill import __version__
from batchmill.app.children import Children, check_extras, new_worker_name, worker_names
from batchmill.app.datadir import children_lock, locked
from batchmill.app.following import Source
from batchmill.app.greeting import engine_line, engines_seen, unseen_engines
from batchmill.app.listen import open_listener, origin, reachable_at
from batchmill.app.parent import run_children
from batchmill.app.roster import Roster
from batchmill.app.stores import WORKER, check_blobs, is_own, open_ledger, prepare_data
from batchmill.app.supervise import Supervisor
from batchmill.config import Role, Settings
from batchmill.errors import ConfigError, Problem
from batchmill.ports import Ledger

EARLIER_CHILDREN_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.05


def serve(settings: Settings, source: Source, say: Callable[[str], None] = print) -> int:
    """Run until a signal says stop; the exit code. Raises `ConfigError` or `LedgerError` where it
    cannot begin."""
    prepare_data(settings)
    if settings.role is Role.ALL:
        check_extras(settings.engines)
    if settings.role is Role.API or settings.database_url is not None:
        return asyncio.run(_serve_among_others(settings, source, say))
    with locked(settings.data):
        return asyncio.run(_serve_alone(settings, source, say))


async def _serve_among_others(
    settings: Settings, source: Source, say: Callable[[str], None]
) -> int:
    """One of many on a ledger. It owns no leases but those of its workers or housekeeper, which
    have names of their own, so it needs no lock and waits for nobody."""
    async with contextlib.AsyncExitStack() as stack:
        ledger = await _opened(settings, stack)
        works = settings.role is Role.ALL
        names = worker_names(new_worker_name(), settings.workers if works else 1)
        children = _children(settings, ledger, names, None, stack)
        return await run_children(children, source, partial(_start, children, say), works=works)


async def _serve_alone(settings: Settings, source: Source, say: Callable[[str], None]) -> int:
    """The API and the workers of a data directory. The workers have the same names through all
    lives: the lock says that the earlier ones are gone, so their leases are opened at once, also
    those of workers that there are no more."""
    async with contextlib.AsyncExitStack() as stack:
        lock = await children_lock(settings.data, EARLIER_CHILDREN_SECONDS)
        stack.callback(os.close, lock)
        ledger = await _opened(settings, stack)
        names = worker_names(WORKER, settings.workers)
        children = _children(settings, ledger, names, lock, stack)
        earlier = {worker.id for worker in await ledger.workers() if is_own(worker.id)}
        for name in sorted(earlier.union(names)):
            await ledger.release_worker(name, struck=False)
        return await run_children(children, source, partial(_start, children, say), works=True)


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
    names: Sequence[str],
    lock: int | None,
    stack: contextlib.AsyncExitStack,
) -> Children:
    listener = stack.enter_context(open_listener(settings.host, settings.port))
    bells = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in names]
    for end in itertools.chain(*bells):
        stack.enter_context(end)
    fds = [(rings.fileno(), hears.fileno()) for rings, hears in bells]
    return Children(Roster(settings), ledger, names, lock, fds, listener)


async def _start(children: Children, say: Callable[[str], None], supervisor: Supervisor) -> None:
    """Start the API and who works for it, and say the four lines once they answer."""
    assert children.listener is not None
    works = children.settings.role is Role.ALL
    supervisor.start(children.api())
    if works:
        await children.engines_accept()
    for child in children.workers() if works else [children.housekeeper()]:
        supervisor.start(child)
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
