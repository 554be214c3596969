"""`batchmill models`: what can be asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchmill.cli.output import AsJson, Column, Output
from batchmill.cli.server import Url, connected

if TYPE_CHECKING:
    from batchmill.client import Model


def models(url: Url = None, *, as_json: AsJson = False) -> None:
    """List the models that can be asked for, and the engines that serve them."""
    with connected(url) as client:
        found = client.models()
    nothing = "No model is served: start `batchmill serve` with --engine."
    Output(as_json=as_json).rows(found, columns(), lambda model: model.raw, nothing)


def columns() -> list[Column[Model]]:
    """The table of models."""
    return [
        Column("model", lambda model: model.id),
        Column("served as", lambda model: model.served_as, rank=2),
        Column("engines", lambda model: ", ".join(model.engines) or "none", rank=1),
        Column("", lambda model: "simulated" if model.simulated else "", rank=3),
    ]
