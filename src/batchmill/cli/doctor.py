"""`batchmill doctor`: is everything there that a job needs, and what to do where it is not?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

import typer

from batchmill.cli import words
from batchmill.cli.engines import told_by as engines_of
from batchmill.cli.exits import FAILED
from batchmill.cli.output import AsJson, Column, Output, note
from batchmill.cli.server import Url, connected
from batchmill.clock import SystemClock

if TYPE_CHECKING:
    from batchmill.client import Client
    from batchmill.client.steps import Reply

OK: Final = "ok"
WARN: Final = "warn"
FAIL: Final = "fail"
CLOCKS_APART_SECONDS: Final = 5.0
LITTLE_BYTES: Final = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, how it is, and the next step where it is not well."""

    name: str
    state: str
    says: str
    next_step: str = ""


def doctor(url: Url = None, *, as_json: AsJson = False) -> None:
    """Check the server, its key, database, storage, workers, engines and models, and the clock.

    Leaves with 1 where something fails.
    """
    out = Output(as_json=as_json)
    with connected(url) as client:
        found = list(checks(client))
    out.rows(found, columns(), asdict)
    failed = [each for each in found if each.state == FAIL]
    if out.is_for_people:
        for each in found:
            if each.next_step:
                note(f"{each.state} {each.name}: {each.next_step}")
    if failed:
        raise typer.Exit(FAILED)


def checks(client: Client) -> Iterator[Check]:
    """Every check, as far as the ones before let it be made."""
    from batchmill.client.errors import ClientError  # noqa: PLC0415 - help is there at once

    try:
        health = client.fetch("/healthz")
    except ClientError as error:
        yield Check("server", FAIL, f"{client.url} does not answer", str(error))
        return
    if health.status != 200 or _json(health).get("status") != "ok":
        step = "Set BATCHMILL_URL to a Batchmill server, with or without /v1 at its end."
        yield Check("server", FAIL, f"{client.url} answers {health.status}", step)
        return
    yield Check("server", OK, f"{client.url} answers")
    yield clock(health, SystemClock().wall())
    yield from readiness(client.fetch("/readyz"))
    allowed = client.fetch("/v1/limits")
    yield key(allowed)
    if allowed.status == 200:
        yield from at_work(client)


def clock(health: Reply, now: float) -> Check:
    """This machine's clock beside the server's."""
    try:
        there = parsedate_to_datetime(health.headers.get("date", "")).timestamp()
    except ValueError:
        return Check("clock", WARN, "the server does not tell its time")
    apart = abs(there - now)
    if apart <= CLOCKS_APART_SECONDS:
        return Check("clock", OK, "agrees with the server's")
    step = "Set both clocks by NTP; ages and windows are shown wrong meanwhile."
    return Check("clock", WARN, f"{words.duration(apart)} apart from the server's", step)


def readiness(ready: Reply) -> Iterator[Check]:
    """The database and the storage, by `/readyz`."""
    told = _json(ready)
    ledger, storage = str(told.get("ledger")), str(told.get("storage"))
    step = "" if ledger == "ok" else "Look at the database: jobs wait until it answers."
    yield Check("database", OK if ledger == "ok" else FAIL, ledger, step)
    if storage == "ok":
        yield Check("storage", OK, storage)
    elif storage == "nearly full":
        yield Check("storage", FAIL, storage, "Make room: nothing new is taken in or sent.")
    else:
        yield Check("storage", FAIL, storage, "Look at the disk or the bucket; jobs wait for it.")
    if told.get("status") == "draining":
        yield Check("process", WARN, "is asked to end", "Wait, or ask another API process.")


def key(allowed: Reply) -> Check:
    """Whether the key opens the server."""
    if allowed.status == 200:
        return Check("key", OK, "is accepted")
    if allowed.status in {401, 403}:
        step = (
            "Set BATCHMILL_API_KEY to a key that `batchmill keys create --tenant NAME` made on the "
            "server, and BATCHMILL_URL to the server."
        )
        return Check("key", FAIL, str(_json(allowed).get("message", "is refused")), step)
    return Check("key", FAIL, f"/v1/limits answers {allowed.status}", "Look at the server's log.")


def at_work(client: Client) -> Iterator[Check]:
    """Disk, workers, engines and models."""
    figures = _figures(client.fetch("/metrics"))
    yield disk(figures.get("batchmill_storage_free_bytes"))
    count = figures.get("batchmill_workers")
    if count:
        yield Check("workers", OK, words.plural(int(count), "worker"))
    else:
        step = "Start `batchmill worker`, or `batchmill serve` without --role api."
        yield Check("workers", FAIL, "no worker runs", step)
    yield from engine_checks(engines_of(client))
    yield models(client)


def disk(free: float | None) -> Check:
    """The room that is left."""
    if free is None:
        return Check("disk", OK, "on an object store")
    if free >= LITTLE_BYTES:
        return Check("disk", OK, f"{words.size(int(free))} free")
    step = "Make room, or delete old files: batchmill gc --older-than 7d --dry-run"
    return Check("disk", WARN, f"{words.size(int(free))} free", step)


def engine_checks(engines: list[Mapping[str, Any]]) -> Iterator[Check]:
    """Each engine."""
    if not engines:
        step = "Start `batchmill serve` with --engine http://your-host:8000/v1"
        yield Check("engine", FAIL, "none is configured", step)
    for each in engines:
        name, state = f"engine {each.get('name')}", str(each.get("state"))
        if state == "up":
            yield Check(name, OK, "answers")
        else:
            why = str(each.get("reason") or f"is {state}")
            step = "Look at the engine and its URL; its jobs wait, and go on by themselves."
            yield Check(name, WARN if state == "unknown" else FAIL, why, step)


def models(client: Client) -> Check:
    """Whether anything can be asked for."""
    found = client.models()
    if not found:
        step = "Load a model into an engine, or look at the engines above."
        return Check("models", FAIL, "none is served", step)
    named = words.clipped(", ".join(model.id for model in found), 60)
    if all(model.simulated for model in found):
        step = "Answers are made up: give `batchmill serve` a real --engine."
        return Check("models", WARN, f"{named} (simulated)", step)
    return Check("models", OK, named)


def columns() -> list[Column[Check]]:
    """The table of checks."""
    return [
        Column("check", lambda each: each.name),
        Column("state", lambda each: each.state),
        Column("", lambda each: each.says, flexible=True),
    ]


def _json(reply: Reply) -> Mapping[str, Any]:
    from batchmill.client.asking import decoded  # noqa: PLC0415 - help is there at once
    from batchmill.client.errors import ClientError  # noqa: PLC0415

    try:
        return decoded(reply.body)
    except ClientError:
        return {}


def _figures(metrics: Reply) -> dict[str, float]:
    """The figures without labels."""
    found = re.findall(rb"(?m)^(batchmill_\w+) ([0-9.e+]+)$", metrics.body)
    return {name.decode(): float(figure) for name, figure in found}
