"""`python -m bench [--quick] [--only NAME]...`: measure, print the tables, write them down."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Final

from bench import (
    adaptive,
    beside,
    claims,
    coming,
    fairness,
    intake,
    memory,
    nginx,
    polite,
    prefix,
    report,
    tables,
    takeover,
    throughput,
    waiting,
    workers,
    wrk,
)
from bench.processes import Failure
from bench.scale import FULL, QUICK
from bench.table import Place, Row, Section

MEASUREMENTS: Final[Mapping[str, Callable[[Place], Section]]] = {
    "throughput": throughput.measure,
    "waiting": waiting.measure,
    "intake": intake.measure,
    "memory": memory.measure,
    "claims": claims.measure,
    "prefix": prefix.measure,
    "fairness": fairness.measure,
    "table": tables.measure,
    "coming": coming.measure,
    "takeover": takeover.measure,
    "workers": workers.measure,
    "adaptive": adaptive.measure,
    "polite": polite.measure,
    "beside": beside.measure,
}
LONGEST_SECONDS: Final = 1200
"""For one measurement; all of them together take about half an hour on a quiet machine."""


def main() -> int:
    """Run what was asked for; 0 when every measurement could be made."""
    arguments = _arguments()
    missing = [name for name, at in (("nginx", nginx.program()), ("wrk", wrk.program())) if not at]
    if missing:
        print(f"Missing: {' and '.join(missing)}; on Debian: apt install nginx-light wrk")
        return 1
    signal.signal(signal.SIGALRM, _too_long)
    signal.signal(signal.SIGTERM, _asked_to_end)
    scale, names = QUICK if arguments.quick else FULL, arguments.only or list(MEASUREMENTS)
    began = time.monotonic()
    report.RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=report.RESULTS) as home:
        place = Path(home)
        with nginx.instant_engine(place / "nginx") as origin:
            sections = [_measured(name, Place(place, origin, scale)) for name in names]
    whole = not arguments.quick and not arguments.only
    report.write(sections, scale, time.monotonic() - began, whole=whole)
    return int(any(section.failed for section in sections))


def _measured(name: str, place: Place) -> Section:
    """The measurement of that name, printed; why it could not be made, where it could not."""
    print(f"Measuring {name} ...", file=sys.stderr, flush=True)
    signal.alarm(LONGEST_SECONDS)
    try:
        section = MEASUREMENTS[name](place)
    except (Failure, OSError) as error:
        row = Row("could not be measured", str(error))
        section = Section(name.capitalize(), "See the message.", [row], failed=True)
    finally:
        signal.alarm(0)
    print(report.table(section), flush=True)
    return section


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, under two minutes")
    parser.add_argument("--only", action="append", choices=list(MEASUREMENTS), metavar="NAME")
    return parser.parse_args()


def _too_long(_signal: int, _frame: FrameType | None) -> None:
    raise Failure(f"it took longer than {LONGEST_SECONDS} s")


def _asked_to_end(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(1)


if __name__ == "__main__":
    sys.exit(main())
