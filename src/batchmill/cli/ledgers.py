"""The ledger for one command: opened by the settings, asked one thing, closed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from batchmill.app.datadir import ledger_path, make_layout
from batchmill.app.stores import open_ledger
from batchmill.config import load
from batchmill.errors import ConfigError, Problem
from batchmill.ports import Ledger

T = TypeVar("T")

Data = Annotated[Path | None, typer.Option(help="The data directory of `serve` (batchmill-data).")]
Config = Annotated[Path | None, typer.Option(help="TOML file (./batchmill.toml where it exists).")]


def with_ledger(
    step: Callable[[Ledger], Awaitable[T]],
    data: Path | None,
    config: Path | None,
    *,
    may_create: bool = False,
) -> T:
    """Do one thing with the ledger that the settings name. Raises `ConfigError` where there is
    none, unless it may be created."""
    settings = load({"data": data, "config": config})
    if may_create:
        make_layout(settings.data)
    elif not ledger_path(settings.data).exists():
        message = f"{settings.data} holds no ledger yet"
        raise ConfigError([Problem("data", message, str(settings.data))])

    async def run() -> T:
        ledger = await open_ledger(settings)
        try:
            return await step(ledger)
        finally:
            await ledger.close_connections()

    return asyncio.run(run())
