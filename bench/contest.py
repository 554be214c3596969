"""Contestants side by side: one server, an engine of its own for each of them, a job for each.

All of them run at the same time, so that whatever else the machine does hits all alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.inputs import write_input
from bench.processes import Failure, wait_until
from bench.server import Server, batchmill_with
from tests.serving import Sim, simulating

LINES = 14_000
"""Of each job: more than any of them answers."""
START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Contestant:
    """A way to set one engine: lines of its table."""

    name: str
    settings: str = ""

    def table(self, url: str) -> str:
        """Its engine as a configuration file has it."""
        return f'[[engines]]\nname = "{self.name}"\nurl = "{url}"\n{self.settings}\n'


@contextmanager
def contest(
    place: Path, name: str, spec: str, contestants: Sequence[Contestant]
) -> Iterator[tuple[Server, dict[str, Sim]]]:
    """A server with a simulated engine for each contestant, which serves a model of its name."""
    with ExitStack() as stack:
        sims = {
            each.name: stack.enter_context(simulating(f"{spec},models={each.name}"))
            for each in contestants
        }
        config = place / f"{name}.toml"
        config.write_text("".join(each.table(sims[each.name].url) for each in contestants))
        server = stack.enter_context(batchmill_with(config, place, name))
        yield server, sims


def begin(server: Server, place: Path, sims: Mapping[str, Sim]) -> None:
    """A job for each engine; returns when all have been called."""
    file = server.upload(write_input(place / "contest.jsonl", LINES))
    for model in sims:
        server.create(file, model)
    wait_until(
        lambda: all(sim.calls()["total"] for sim in sims.values()), START_SECONDS, "first calls"
    )


def answered(
    sims: Mapping[str, Sim], seconds: float, at: Mapping[float, Callable[[], None]] | None = None
) -> dict[str, int]:
    """How many calls each answered within so many seconds from now; what is to happen meanwhile
    happens `at` its second."""
    before = {name: _answers(sim) for name, sim in sims.items()}
    began = time.monotonic()
    for moment, happens in sorted((at or {}).items()):
        time.sleep(max(0.0, began + moment - time.monotonic()))
        happens()
    time.sleep(max(0.0, began + seconds - time.monotonic()))
    counts = {name: _answers(sim) - before[name] for name, sim in sims.items()}
    if not all(counts.values()):
        raise Failure(f"an engine answered nothing: {counts}")
    return counts


def _answers(sim: Sim) -> int:
    return int(sim.calls()["by_status"].get("200", 0))
