"""`batchmill workers`: who works on a ledger, asked of the ledger itself or of a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchmill.cli.exits import Failure
from batchmill.cli.ledgers import Config, Data, with_ledger
from batchmill.cli.output import AsJson, Column, Output
from batchmill.cli.server import Url, connected
from batchmill.cli.words import duration

if TYPE_CHECKING:
    from batchmill.client import Client
    from batchmill.ports import Ledger

Worker = Mapping[str, Any]


def workers(
    data: Data = None, config: Config = None, url: Url = None, *, as_json: AsJson = False
) -> None:
    """Show the workers seen within a day, and what they hold.

    Asks the server that --url, BATCHMILL_URL or its like names; without one, or with --data or
    --config, the ledger itself.
    """
    seen = _seen(data, config, url)
    out = Output(as_json=as_json)
    out.rows(seen.workers, columns(seen.now), lambda worker: worker, "No worker within a day.")


@dataclass(frozen=True, slots=True)
class Seen:
    """The workers, and when they were looked at by the ledger's clock."""

    workers: Sequence[Worker]
    now: float


def _seen(data: Path | None, config: Path | None, url: str | None) -> Seen:
    from batchmill.client.address import is_named  # noqa: PLC0415 - help is there at once

    if data is None and config is None and (url is not None or is_named()):
        with connected(url) as client:
            return told_by(client)
    return with_ledger(_look, data, config)


def told_by(client: Client) -> Seen:
    """What the server says. Raises `Failure` for one that cannot say it."""
    from batchmill.client.asking import accepted, decoded, listed  # noqa: PLC0415
    from batchmill.client.errors import NotFound  # noqa: PLC0415

    try:
        told = decoded(accepted(client.fetch("/v1/workers")))
    except NotFound:
        raise Failure(f"The server at {client.url} is too old to tell of its workers.") from None
    return Seen(listed(told), float(told.get("now", 0.0)))


async def _look(ledger: Ledger) -> Seen:
    from batchmill.web.workers import worker_object  # noqa: PLC0415 - other commands start faster

    found = [worker_object(each).model_dump() for each in await ledger.workers()]
    return Seen(found, await ledger.now())


def columns(now: float) -> list[Column[Worker]]:
    """The table of workers, as of now."""
    return [
        Column("name", lambda worker: worker["name"]),
        Column("host", lambda worker: worker["host"], rank=4),
        Column("pid", lambda worker: str(worker["pid"]), right=True, rank=5),
        Column("since", _since, rank=6),
        Column("last beat", lambda worker: _ago(now - worker["last_beat"]), rank=3),
        Column("state", lambda worker: worker["state"]),
        Column("shards", lambda worker: str(worker["shards"]), right=True, rank=2),
        Column("in flight", lambda worker: str(worker["in_flight"]), right=True, rank=1),
        Column("engines", _engines, rank=2, flexible=True),
    ]


def _ago(seconds: float) -> str:
    return f"{duration(max(0.0, seconds))} ago"


def _since(worker: Worker) -> str:
    since = worker["since"]
    return datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%d %H:%M:%S") if since else ""


def _engines(worker: Worker) -> str:
    return ", ".join(f"{each['name']} {each['state']}" for each in worker["engines"]) or "none"
