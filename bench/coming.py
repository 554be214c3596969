"""How soon an engine that the configuration file gains is used, and one that it loses is not."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from bench.engine import Engine, slow_engine
from bench.inputs import write_input
from bench.processes import wait_until
from bench.server import TERMINAL, batchmill_with
from bench.table import Place, Section, at_most

DELAY_MS: Final = 50
NOTICED_SECONDS: Final = 30.0
_LINES: Final = 20_000
_IN_FLIGHT: Final = 32
_QUIET_SECONDS: Final = 2.0
_TABLE: Final = '[[engines]]\nname = "{n}"\nurl = "{url}/v1"\nconcurrency = {in_flight}\n'
_READING: Final = (
    "A job runs over one engine. A second one is written into the configuration file, later the "
    "first one is taken out; the times are from the writing to the second engine's first call, "
    "and to the first engine's last."
)


def measure(place: Place) -> Section:
    """Both times, in one job."""
    first_home, second_home = place.home / "first", place.home / "second"
    for home in (first_home, second_home):
        home.mkdir()
    with slow_engine(first_home, DELAY_MS) as first, slow_engine(second_home, DELAY_MS) as second:
        config = place.home / "coming.toml"
        _write(config, {"first": first})
        with batchmill_with(config, place.home, "coming") as server:
            batch = write_input(place.home / "coming.jsonl", _LINES)
            job = server.create(server.upload(batch))
            wait_until(lambda: first.stamp()["count"] > 0, 30, "the first call")
            written = time.monotonic()
            _write(config, {"first": first, "second": second})
            wait_until(lambda: second.calls() > 0, 60, "the use of an engine")
            added = second.stamp()["first"] - written
            written = time.monotonic()
            _write(config, {"second": second})
            removed = _last_call(first) - written
            wait_until(lambda: server.job(job)["status"] in TERMINAL, 120, "the job")
    rows = [
        at_most("an engine is added", added, NOTICED_SECONDS, " s"),
        at_most("an engine is removed", removed, NOTICED_SECONDS, " s"),
    ]
    figures = {"added_seconds": added, "removed_seconds": removed}
    return Section("Engines that come and go", _READING, rows, figures)


def _write(config: Path, engines: dict[str, Engine]) -> None:
    tables = (
        _TABLE.format(n=name, url=engine.origin, in_flight=_IN_FLIGHT)
        for name, engine in engines.items()
    )
    config.write_text("".join(tables))


def _last_call(engine: Engine) -> float:
    """When the engine was called last, once it has been quiet for a while."""
    last = time.monotonic()
    while time.monotonic() - last < _QUIET_SECONDS:
        if engine.stamp()["count"]:
            last = time.monotonic()
        time.sleep(0.1)
    return last
