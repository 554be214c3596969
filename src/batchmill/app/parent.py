"""What every parent does: begins its children, tells them what changes, and stops them when a
signal says so. Which children there are says `children.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from batchmill.app.children import Children
from batchmill.app.following import Source, follow
from batchmill.app.signals import listen_to_signals
from batchmill.app.stopping import ENGINES_SECONDS, children_seconds
from batchmill.app.supervise import Supervisor, supervising

Start = Callable[[Supervisor], Awaitable[None]]


async def run_children(children: Children, source: Source, start: Start, *, works: bool) -> int:
    """Begin with the embedded engines where this parent `works`, then with the others, which
    `start` does; stop in the other order. The exit code."""
    engines = children.engines() if works else []
    async with supervising() as supervisor:
        told = listen_to_signals(supervisor)
        for child in engines:
            supervisor.start(child)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(_run(children, source, supervisor, start, told.reread))
            await told.stop.wait()
            running.cancel()
        if children.listener is not None:
            children.listener.close()  # the API's own is the last: with it connections are refused
        its = {child.name for child in engines}
        await supervisor.stop(supervisor.names - its, children_seconds(children.settings))
        await supervisor.stop(its, ENGINES_SECONDS)
    return told.exit_code


async def _run(
    children: Children,
    source: Source,
    supervisor: Supervisor,
    start: Start,
    reread: asyncio.Event,
) -> None:
    await children.roster.look_up()
    await start(supervisor)
    await follow(children.roster, source, reread, partial(children.tell, supervisor))
