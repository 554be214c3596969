"""`python -m batchmill.ray`: keeps workers on a Ray cluster until a signal says stop."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from batchmill.config import Settings, load
from batchmill.errors import BatchmillError
from batchmill.ray.crew import library, serve_workers
from batchmill.ray.scaling import LINES_PER_WORKER, Bounds
from batchmill.telemetry import configure_logs


def main(
    config: Annotated[Path | None, typer.Option(help="TOML file (./batchmill.toml).")] = None,
    address: Annotated[str, typer.Option(help="The Ray cluster.")] = "auto",
    min_workers: Annotated[int, typer.Option(help="Workers at least.")] = 1,
    max_workers: Annotated[int, typer.Option(help="Workers at most.")] = 4,
    lines_per_worker: Annotated[
        int, typer.Option(help="Open lines for which one more worker is started.")
    ] = LINES_PER_WORKER,
    cpus: Annotated[float, typer.Option(help="CPUs that Ray sets aside for a worker.")] = 1.0,
) -> None:
    """Run workers on a Ray cluster until Ctrl-C or SIGTERM, as many as the backlog asks for."""
    try:
        settings = load({"config": config})
        bounds = Bounds(min_workers, max_workers, lines_per_worker)
        ray = library()
        configure_logs("ray")
        ray.init(address=address)
        asyncio.run(_until_a_signal(settings, bounds, cpus))
    except BatchmillError as error:
        sys.exit(f"batchmill: {error}")


async def _until_a_signal(settings: Settings, bounds: Bounds, cpus: float) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve_workers(settings, bounds, stop, actor_options={"num_cpus": cpus})


if __name__ == "__main__":
    typer.run(main)
