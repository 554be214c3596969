"""`batchmill worker`: the parent of one worker and its embedded engines, without an API.

Any number of them share a ledger, on one machine or many. Each life has a name of its own, so it
needs no lock, waits for nobody and opens nobody's leases but those of its own dead children.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from batchmill import __version__
from batchmill.app.children import Children, check_extras, new_worker_name
from batchmill.app.datadir import make_layout
from batchmill.app.greeting import engine_line, engines_seen
from batchmill.app.signals import listen_to_signals
from batchmill.app.stopping import ENGINES_SECONDS, children_seconds
from batchmill.app.stores import check_blobs, open_ledger
from batchmill.app.supervise import Supervisor, supervising
from batchmill.config import Settings


def work(settings: Settings, say: Callable[[str], None] = print) -> int:
    """Work until a signal says stop; the exit code. Raises `ConfigError` or `LedgerError` where it
    cannot begin."""
    check_extras(settings.engines)
    make_layout(settings.data)
    return asyncio.run(_work(settings, say))


async def _work(settings: Settings, say: Callable[[str], None]) -> int:
    await check_blobs(settings)
    ledger = await open_ledger(settings)
    try:
        return await _run(Children(settings, ledger, new_worker_name()), say)
    finally:
        await ledger.close_connections()


async def _run(children: Children, say: Callable[[str], None]) -> int:
    """Start the engines and the worker, say what they are, and stop them when a signal comes."""
    engines = children.engines()
    async with supervising() as supervisor:
        told = listen_to_signals(supervisor)
        for child in engines:
            supervisor.start(child)
        async with asyncio.TaskGroup() as tasks:
            starting = tasks.create_task(_start(children, supervisor, say))
            await told.stop.wait()
            starting.cancel()
        await supervisor.stop(["worker"], children_seconds(children.settings))
        await supervisor.stop([child.name for child in engines], ENGINES_SECONDS)
    return told.exit_code


async def _start(children: Children, supervisor: Supervisor, say: Callable[[str], None]) -> None:
    await children.engines_accept()
    supervisor.start(children.worker())
    engines = await engines_seen(children, supervisor)
    say(f"Batchmill {__version__} works as {children.worker_name}")
    say(f"engines     {engine_line(engines)}")
