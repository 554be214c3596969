"""The worker process: runs jobs until SIGTERM, and looks for work at once when the API rings."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import signal
import socket
from dataclasses import replace

import uvloop

from batchmill.app.orders import Orders
from batchmill.app.stopping import flights_seconds
from batchmill.app.stores import open_blobs, open_ledger
from batchmill.calls import Transport
from batchmill.clock import Clock, SystemClock
from batchmill.config import Settings
from batchmill.core.collect import GroupRules
from batchmill.core.lines import LineRules
from batchmill.core.linkset import Opener
from batchmill.core.rules import Stores, WorkerRules
from batchmill.core.worker import Worker
from batchmill.dialects.formats import FORMATS
from batchmill.dialects.openai.events import event_body
from batchmill.engines.budget import ByteBudget
from batchmill.engines.transport import HttpTransport
from batchmill.fleet import EngineSpec, Timing
from batchmill.ports import Blobs, Ledger
from batchmill.telemetry import configure_logs
from batchmill.webhooks.guard import Guard, SystemResolver
from batchmill.webhooks.post import Poster


async def run_worker(orders: Orders, *, sends: bool = True) -> None:
    """Work until SIGTERM, then drain. One that `sends` nothing only keeps house."""
    settings, clock = orders.settings, SystemClock()
    budget = ByteBudget(settings.memory_budget)
    opened = opener(clock, budget)
    ledger = await open_ledger(settings)
    try:
        stores = ledger, open_blobs(settings)
        worker = make_worker(orders, *stores, clock, budget, opened, sends=sends)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        for fd in orders.wake_fds:
            bell = socket.socket(fileno=fd)
            bell.setblocking(False)
            loop.add_reader(bell, _rung, bell, worker)
        later: asyncio.Queue[Orders] = asyncio.Queue()
        Orders.follow(later.put_nowait)
        async with asyncio.TaskGroup() as tasks:
            obeying = tasks.create_task(_obey(later, worker, opened))
            await worker.run(stop)
            obeying.cancel()
    finally:
        await ledger.close_connections()


def opener(clock: Clock, budget: ByteBudget) -> Opener:
    """What opens the way to an engine, for workers with that budget."""

    def opened(spec: EngineSpec) -> Transport:
        return HttpTransport(spec, clock, budget)

    return opened


def make_worker(
    orders: Orders,
    ledger: Ledger,
    blobs: Blobs,
    clock: Clock,
    budget: ByteBudget,
    opened: Opener,
    *,
    sends: bool = True,
    only_model: str | None = None,
) -> Worker:
    """A worker over these stores, which the caller closes. Lines go to `only_model`, whatever
    they name, where there is one."""
    settings = orders.settings
    rules = rules_of(settings, blobs.group_seconds, sends=sends)
    return Worker(
        orders.worker,
        Stores(ledger, blobs, lambda: open_ledger(settings)),
        [(spec, opened(spec)) for spec in orders.engines],
        settings.models,
        FORMATS,
        LineRules(max_line_bytes=settings.max_line_size, max_lines=settings.max_job_lines),
        clock,
        replace(rules, only_model=only_model),
        released=budget.release,
        post=Poster(
            Guard(settings.webhook_allow_hosts, SystemResolver()),
            orders.webhook_secrets,
            event_body,
            clock,
        ),
    )


async def _obey(later: asyncio.Queue[Orders], worker: Worker, opened: Opener) -> None:
    """Work for ever with the engines and aliases of the newest orders."""
    while True:
        orders = await later.get()
        await worker.change_engines(orders.engines, orders.settings.models, opened)


def _rung(bell: socket.socket, worker: Worker) -> None:
    """Take every ring that has piled up, and look for work once."""
    with contextlib.suppress(BlockingIOError):
        while bell.recv(16):
            pass
    worker.wake()


def rules_of(settings: Settings, group_seconds: float, *, sends: bool = True) -> WorkerRules:
    """The settings that concern a worker, and how long its blob store lets outcomes gather."""
    return WorkerRules(
        group=GroupRules(seconds=group_seconds),
        timing=Timing(settings.lease_time.total_seconds(), settings.beat.total_seconds()),
        drain_seconds=flights_seconds(settings),
        low_disk_bytes=settings.low_disk,
        upload_retention_seconds=settings.keep_uploads.total_seconds(),
        sends=sends,
    )


def allow_many_connections() -> None:
    """As many open files as this process may have at all: a call in flight is one, and 1,024, the
    usual limit, are fewer than two engines may get."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def collect_seldom() -> None:
    """What lives long was made by now, and a line makes no cycles: look for garbage less often."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


if __name__ == "__main__":
    configure_logs("worker")
    collect_seldom()
    allow_many_connections()
    uvloop.run(run_worker(Orders.read()))
