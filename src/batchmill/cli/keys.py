"""`batchmill keys`: makes, lists and revokes API keys in the ledger of a data directory, and shows
webhook secrets.

A key is printed once; only its hash is kept. A webhook secret is derived whenever it is needed.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from batchmill.app.datadir import ledger_path, make_layout
from batchmill.app.stores import open_ledger
from batchmill.config import load
from batchmill.errors import ConfigError, Problem
from batchmill.model import DEFAULT_TENANT, ApiKey, KeyId, TenantId
from batchmill.ports import Ledger
from batchmill.webhooks.signing import tenant_secret

T = TypeVar("T")

PREFIX = "bm_"
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

app = typer.Typer(
    help="Make, list and revoke API keys; show webhook secrets.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Data = Annotated[Path | None, typer.Option(help="The data directory of `serve` (batchmill-data).")]
Config = Annotated[Path | None, typer.Option(help="TOML file (./batchmill.toml where it exists).")]


@app.command()
def create(
    tenant: Annotated[str, typer.Option(help="Who owns the files and jobs made with the key.")],
    data: Data = None,
    config: Config = None,
) -> None:
    """Make a key and print it, this once."""
    from batchmill.web.auth import key_digest  # noqa: PLC0415 - `serve` starts lighter without

    _require_tenant(tenant)
    key = new_key()
    _with_ledger(
        lambda ledger: ledger.create_key(TenantId(tenant), key_digest(key), key[-4:]),
        data,
        config,
        may_create=True,
    )
    typer.echo(key)


@app.command("list")
def list_keys(data: Data = None, config: Config = None) -> None:
    """Show every key: its id, tenant, last characters, and whether it is revoked."""
    for key in _with_ledger(lambda ledger: ledger.keys(), data, config):
        typer.echo(_row(key))


@app.command()
def revoke(
    id: Annotated[str, typer.Argument(help="The key's id, as `keys list` shows it.")],
    data: Data = None,
    config: Config = None,
) -> None:
    """Refuse a key from now on."""
    if not _with_ledger(lambda ledger: ledger.revoke_key(KeyId(id)), data, config):
        typer.echo(f"batchmill: there is no live key with id {id}", err=True)
        raise typer.Exit(1)
    typer.echo(f"revoked {id}")


@app.command("webhook-secret")
def webhook_secret(
    tenant: Annotated[str, typer.Option(help="Whose jobs the webhooks tell of.")] = DEFAULT_TENANT,
    config: Config = None,
) -> None:
    """Print the secret that a tenant's receivers verify webhooks with, by the newest root."""
    _require_tenant(tenant)
    roots = load({"config": config}).webhook_secrets
    if not roots:
        message = "is not set; give BATCHMILL_WEBHOOK_SECRET as `serve` has it"
        raise ConfigError([Problem("webhook_secret", message)])
    typer.echo(tenant_secret(roots[0], TenantId(tenant)))


def _require_tenant(tenant: str) -> None:
    if not _TENANT.fullmatch(tenant):
        message = f"{tenant!r} should be up to 64 letters, digits, dots, dashes or underscores"
        raise ConfigError([Problem("tenant", message, "--tenant")])


def new_key() -> str:
    """A key nobody can guess."""
    return PREFIX + secrets.token_urlsafe(32)


def _row(key: ApiKey) -> str:
    made = datetime.fromtimestamp(key.created_at, UTC).strftime("%Y-%m-%d %H:%M")
    state = "live" if key.revoked_at is None else "revoked"
    return f"{key.id}  {key.tenant}  ...{key.hint}  made {made}  {state}"


def _with_ledger(
    step: Callable[[Ledger], Awaitable[T]],
    data: Path | None,
    config: Path | None,
    *,
    may_create: bool = False,
) -> T:
    """Do one thing with the ledger that the settings name."""
    settings = load({"data": data, "config": config})
    if may_create:
        make_layout(settings.data)
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
