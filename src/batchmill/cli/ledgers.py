"""The ledger for one command: opened by the settings, asked one thing, closed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from batchmill.errors import ConfigError, Problem

if TYPE_CHECKING:
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
    from batchmill.app.datadir import ledger_path  # noqa: PLC0415 - other commands start faster
    from batchmill.app.stores import open_ledger, prepare_data  # noqa: PLC0415
    from batchmill.config import load  # noqa: PLC0415

    settings = load({"data": data, "config": config})
    if may_create:
        prepare_data(settings)
    elif settings.database_url is None and not ledger_path(settings.data).exists():
        message = f"{settings.data} holds no ledger yet"
        raise ConfigError([Problem("data", message, str(settings.data))])

    async def run() -> T:
        ledger = await open_ledger(settings)
        try:
            return await step(ledger)
        finally:
            await ledger.close_connections()

    return asyncio.run(run())
