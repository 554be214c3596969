"""`batchmill keys`: makes, lists and revokes API keys in the ledger of a data directory, and shows
webhook secrets.

A key is printed once; only its hash is kept. A webhook secret is derived whenever it is needed.
"""

from __future__ import annotations

import re
import secrets
from typing import Annotated, Any

import typer

from batchmill.cli.ledgers import Config, Data, with_ledger
from batchmill.cli.output import AsJson, Column, Output
from batchmill.cli.words import moment
from batchmill.errors import ConfigError, Problem
from batchmill.model import DEFAULT_TENANT, ApiKey, KeyId, TenantId

PREFIX = "bm_"
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

app = typer.Typer(
    help="Make, list and revoke API keys; show webhook secrets.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


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
    with_ledger(
        lambda ledger: ledger.create_key(TenantId(tenant), key_digest(key), key[-4:]),
        data,
        config,
        may_create=True,
    )
    typer.echo(key)


@app.command("list")
def list_keys(data: Data = None, config: Config = None, *, as_json: AsJson = False) -> None:
    """Show every key: its id, tenant, last characters, and whether it is revoked."""
    found = with_ledger(lambda ledger: ledger.keys(), data, config)
    Output(as_json=as_json).rows(found, columns(), as_object, "No key was made yet.")


@app.command()
def revoke(
    id: Annotated[str, typer.Argument(help="The key's id, as `keys list` shows it.")],
    data: Data = None,
    config: Config = None,
) -> None:
    """Refuse a key from now on."""
    if not with_ledger(lambda ledger: ledger.revoke_key(KeyId(id)), data, config):
        typer.echo(f"batchmill: there is no live key with id {id}", err=True)
        raise typer.Exit(1)
    typer.echo(f"revoked {id}")


@app.command("webhook-secret")
def webhook_secret(
    tenant: Annotated[str, typer.Option(help="Whose jobs the webhooks tell of.")] = DEFAULT_TENANT,
    config: Config = None,
) -> None:
    """Print the secret that a tenant's receivers verify webhooks with, by the newest root."""
    from batchmill.config import load  # noqa: PLC0415 - other commands start faster
    from batchmill.webhooks.signing import tenant_secret  # noqa: PLC0415

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


def as_object(key: ApiKey) -> dict[str, Any]:
    """A key for programs, without its secret."""
    return {
        "id": key.id,
        "tenant": key.tenant,
        "hint": f"...{key.hint}",
        "created_at": key.created_at,
        "state": _state(key),
    }


def columns() -> list[Column[ApiKey]]:
    """The table of keys."""
    return [
        Column("id", lambda key: key.id),
        Column("tenant", lambda key: key.tenant),
        Column("ends with", lambda key: key.hint, rank=1),
        Column("made", lambda key: moment(key.created_at), rank=2),
        Column("state", _state),
    ]


def _state(key: ApiKey) -> str:
    return "live" if key.revoked_at is None else "revoked"
