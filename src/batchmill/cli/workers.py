"""`batchmill workers`: who works on a ledger, as a table for people or one JSON object a line."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from batchmill.cli.ledgers import Config, Data, with_ledger
from batchmill.fleet import Worker
from batchmill.ports import Ledger

_COLUMNS = ("name", "host", "pid", "since", "last beat", "state", "shards", "in flight", "engines")


def workers(
    data: Data = None,
    config: Config = None,
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, as in a pipe.")
    ] = False,
) -> None:
    """Show the workers seen within a day, and what they hold."""
    seen = with_ledger(_look, data, config)
    if as_json or not sys.stdout.isatty():
        for worker in seen.workers:
            typer.echo(json.dumps(as_object(worker)))
    else:
        for line in table([as_row(worker, seen.now) for worker in seen.workers]):
            typer.echo(line)


@dataclass(frozen=True, slots=True)
class Seen:
    """The workers, and when they were looked at by the ledger's clock."""

    workers: Sequence[Worker]
    now: float


async def _look(ledger: Ledger) -> Seen:
    return Seen(await ledger.workers(), await ledger.now())


def state_of(worker: Worker) -> str:
    """One word for what it is up to."""
    if not worker.alive:
        return "left" if worker.beat.draining else "dead"
    if worker.beat.draining:
        return "draining"
    return "alive" if worker.beat.sends else "housekeeping"


def as_object(worker: Worker) -> dict[str, Any]:
    """A worker for programs: times in Unix seconds."""
    beat = worker.beat
    return {
        "name": worker.id,
        "host": worker.host,
        "pid": worker.pid,
        "since": beat.since or None,
        "last_beat": worker.beat_at,
        "alive": worker.alive,
        "state": state_of(worker),
        "shards": beat.shards,
        "in_flight": worker.in_flight,
        "engines": [
            {"name": each.name, "state": each.state.value, "in_flight": each.in_flight}
            for each in beat.engines
        ],
    }


def as_row(worker: Worker, now: float) -> tuple[str, ...]:
    """A worker for people."""
    beat = worker.beat
    return (
        worker.id,
        worker.host,
        str(worker.pid),
        datetime.fromtimestamp(beat.since, UTC).strftime("%Y-%m-%d %H:%M:%S") if beat.since else "",
        f"{max(0.0, now - worker.beat_at):.1f}s ago",
        state_of(worker),
        str(beat.shards),
        str(worker.in_flight),
        ", ".join(f"{each.name} {each.state.value}" for each in beat.engines) or "none",
    )


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows under their heads, in columns."""
    lines = [_COLUMNS, *rows]
    widths = [max(len(line[n]) for line in lines) for n in range(len(_COLUMNS))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
