"""`batchmill worker`: the parent of workers and their embedded engines, without an API.

Any number of them share a ledger, on one machine or many. Each life has names of its own, so it
needs no lock, waits for nobody and opens nobody's leases but those of its own dead children.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from batchmill import __version__
from batchmill.app.children import Children, check_extras, new_worker_name, worker_names
from batchmill.app.following import Source
from batchmill.app.greeting import engine_line, engines_seen
from batchmill.app.parent import run_children
from batchmill.app.roster import Roster
from batchmill.app.stores import check_blobs, open_ledger, prepare_data
from batchmill.app.supervise import Supervisor
from batchmill.config import Settings


def work(settings: Settings, source: Source, say: Callable[[str], None] = print) -> int:
    """Work until a signal says stop; the exit code. Raises `ConfigError` or `LedgerError` where it
    cannot begin."""
    check_extras(settings.engines)
    prepare_data(settings)
    return asyncio.run(_work(settings, source, say))


async def _work(settings: Settings, source: Source, say: Callable[[str], None]) -> int:
    await check_blobs(settings)
    ledger = await open_ledger(settings)
    try:
        names = worker_names(new_worker_name(), settings.workers)
        children = Children(Roster(settings), ledger, names)
        start = partial(_start, children, say)
        return await run_children(children, source, start, works=True)
    finally:
        await ledger.close_connections()


async def _start(children: Children, say: Callable[[str], None], supervisor: Supervisor) -> None:
    await children.engines_accept()
    for child in children.workers():
        supervisor.start(child)
    engines = await engines_seen(children, supervisor)
    say(f"Batchmill {__version__} works as {', '.join(children.names)}")
    say(f"engines     {engine_line(engines)}")
