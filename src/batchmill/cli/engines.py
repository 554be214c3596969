"""`batchmill engines`: the engines, as the server sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from batchmill.cli.output import AsJson, Column, Output
from batchmill.cli.server import Url, connected

if TYPE_CHECKING:
    from batchmill.client import Client

Engine = Mapping[str, Any]


def engines(url: Url = None, *, as_json: AsJson = False) -> None:
    """List the engines: whether they answer, what they serve, how much is in flight."""
    with connected(url) as client:
        found = told_by(client)
    nothing = "No engine: start `batchmill serve` with --engine."
    Output(as_json=as_json).rows(found, columns(), lambda engine: engine, nothing)


def told_by(client: Client) -> list[Engine]:
    """The engines, by `/v1/engines`; of a server that has no such route, by what its workers and
    models say."""
    from batchmill.client.asking import accepted, decoded, listed  # noqa: PLC0415 - help comes first
    from batchmill.client.errors import NotFound  # noqa: PLC0415

    try:
        return list(listed(decoded(accepted(client.fetch("/v1/engines")))))
    except NotFound:
        return _pieced_together(client)


def _pieced_together(client: Client) -> list[Engine]:
    from batchmill.cli.workers import told_by as workers_of  # noqa: PLC0415

    engines: dict[str, dict[str, Any]] = {}

    def engine(name: str) -> dict[str, Any]:
        unseen = {"name": name, "state": "unknown", "models": [], "in_flight": 0}
        return engines.setdefault(name, unseen)

    for worker in workers_of(client).workers:
        for each in worker["engines"] if worker["alive"] else ():
            seen = engine(each["name"])
            seen["state"] = "up" if "up" in {each["state"], seen["state"]} else each["state"]
            seen["in_flight"] += each["in_flight"]
    for model in client.models():
        for name in model.engines:
            engine(name)["models"].append(model.id)
    return list(engines.values())


def columns() -> list[Column[Engine]]:
    """The table of engines; keys that the server does not tell stay empty."""
    return [
        Column("engine", lambda each: str(each.get("name", ""))),
        Column("state", lambda each: str(each.get("state", ""))),
        Column("in flight", lambda each: _number(each.get("in_flight")), right=True, rank=1),
        Column("at most", lambda each: _number(each.get("window")), right=True, rank=2),
        Column("kind", lambda each: str(each.get("kind") or ""), rank=4),
        Column(
            "models",
            lambda each: ", ".join(map(str, each.get("models") or ())),
            rank=3,
            flexible=True,
        ),
        Column("why", _why, rank=5, flexible=True),
    ]


def _why(engine: Engine) -> str:
    """Why it is not up, else why it is given as much at once as it is."""
    decision = engine.get("decision")
    decided = decision.get("why") if isinstance(decision, dict) else None
    return str(engine.get("reason") or decided or "")


def _number(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return ""
    return f"{value:,}" if isinstance(value, int) else str(value)
