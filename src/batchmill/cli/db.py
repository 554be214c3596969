"""`batchmill db`: brings the ledger's database up to date. SQLite does so by itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from batchmill.app.datadir import make_layout
from batchmill.app.stores import upgrade_ledger
from batchmill.config import load

app = typer.Typer(
    help="Bring the database up to date.", no_args_is_help=True, rich_markup_mode=None
)


@app.callback()
def database() -> None:
    """Bring the database up to date."""


@app.command()
def upgrade(
    data: Annotated[
        Path | None, typer.Option(help="The data directory of `serve` (batchmill-data).")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file (./batchmill.toml where it exists).")
    ] = None,
) -> None:
    """Make or change the tables of the database that BATCHMILL_DATABASE_URL names.

    Run it once for each release, before the first process of that release is started; processes
    of the release before go on meanwhile. Run again, or twice at once, it changes nothing.
    """
    settings = load({"data": data, "config": config})
    if settings.database_url is None:
        make_layout(settings.data)
    typer.echo(f"the database is at version {asyncio.run(upgrade_ledger(settings))}")
