"""How much longer a small job takes while a very large one is running on the same engine."""

from __future__ import annotations

from typing import Final

from bench.engine import slow_engine
from bench.inputs import write_input
from bench.processes import wait_until
from bench.server import TERMINAL, Server, batchmill_with_engines
from bench.table import Place, Row, Section, at_most

DELAY_MS: Final = 50
SMALL_SECONDS: Final = 10
_IN_FLIGHT: Final = 64
_LARGE_LINES: Final = 200_000
"""At least; fewer would be done before the small jobs are."""
_LINE_BYTES: Final = 250
_JOB_SECONDS: Final = 120.0
_READING = (
    f"An engine that takes {DELAY_MS} ms for every answer, {_IN_FLIGHT} calls in flight. The small "
    f"job takes about {SMALL_SECONDS} s alone, from its create to its end. Then a tenant's large "
    "job runs, and the small one is created beside it: by another tenant, by the same one, and "
    "with a higher priority. The latency of one call is taken off before the ratio to its time "
    "alone is taken."
)
_ENGINE = '[[engines]]\nname = "slow"\nurl = "{url}/v1"\nconcurrency = {in_flight}\n'


def measure(place: Place) -> Section:
    """The small job alone, and beside the large one."""
    large_lines = max(place.scale.many_lines, _LARGE_LINES)
    small = write_input(
        place.home / "small.jsonl", SMALL_SECONDS * _IN_FLIGHT * 1000 // DELAY_MS, _LINE_BYTES
    )
    large = write_input(place.home / "large.jsonl", large_lines, _LINE_BYTES)
    with slow_engine(place.home, DELAY_MS) as engine:
        engines = _ENGINE.format(url=engine.origin, in_flight=_IN_FLIGHT)
        with batchmill_with_engines(engines, place.home, "fairness") as server:
            big, other = server.of_tenant("big"), server.of_tenant("other")
            its_file, other_file = big.upload(small), other.upload(small)
            alone = _seconds(other, other_file)
            job = big.create(big.upload(large))
            wait_until(lambda: big.job(job)["completed_requests"] > 0, 90, "the large job's start")
            beside = {
                "of another tenant": _seconds(other, other_file),
                "of the same tenant": _seconds(big, its_file),
                "with a higher priority": _seconds(other, other_file, priority=5),
            }
            left = large_lines - big.job(job)["completed_requests"]
            big.cancel(job)
            wait_until(lambda: big.job(job)["status"] in TERMINAL, 60, "a cancel")
    rows = [Row("the small job alone", f"{alone:.1f} s")]
    rows += [
        at_most(
            f"{what}, beside {large_lines:,} lines ({seconds:.1f} s)",
            (seconds - DELAY_MS / 1000) / alone,
            1.5 if "priority" in what else 2.2,
            " x",
            2,
        )
        for what, seconds in beside.items()
    ]
    rows.append(Row("lines that the large job had left", f"{left:,}"))
    return Section("Fairness", _READING, rows, {"alone": alone, **beside, "left": left})


def _seconds(server: Server, file: str, **wishes: object) -> float:
    """From the create of a job to its end."""
    life = server.finish(server.create(file, **wishes), _JOB_SECONDS)
    assert life.ended is not None
    return life.ended - life.created
