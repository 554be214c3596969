"""`batchmill db`: brings the ledger's database up to date. SQLite does so by itself."""

from __future__ import annotations

import asyncio

import typer

from batchmill.cli.ledgers import Config, Data

app = typer.Typer(
    help="Bring the database up to date.", no_args_is_help=True, rich_markup_mode=None
)


@app.callback()
def database() -> None:
    """Bring the database up to date."""


@app.command()
def upgrade(
    data: Data = None,
    config: Config = None,
) -> None:
    """Make or change the tables of the database that BATCHMILL_DATABASE_URL names.

    Run it once for each release, before the first process of that release is started; processes
    of the release before go on meanwhile. Run again, or twice at once, it changes nothing.
    """
    from batchmill.app.stores import prepare_data, upgrade_ledger  # noqa: PLC0415 - as in `ledgers`
    from batchmill.config import load  # noqa: PLC0415

    settings = load({"data": data, "config": config})
    prepare_data(settings)
    typer.echo(f"the database is at version {asyncio.run(upgrade_ledger(settings))}")
