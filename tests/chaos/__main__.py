"""`make chaos`: four runs, on both kinds of stores, in a storm of blows and in fair weather."""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from tests.chaos.run import Plan, run
from tests.chaos.stores import on_files, on_servers

STORES = {"files": on_files, "servers": on_servers}
MOST_CALLS_PER_LINE = 1.10
OUTAGE_EVERY_SECONDS = 25.0
FAIR_EVERY_SECONDS = {"files": 2.0, "servers": 20.0}


def main() -> int:
    """Run what was asked for; exit code 1 where a promise was broken."""
    asked = _arguments()
    whole = Plan(asked.seed, lines=asked.lines, strike_seconds=asked.seconds)
    broken = 0
    for name in [asked.on] if asked.on else STORES:
        servers = name == "servers"
        storm = replace(
            whole,
            every_seconds=1.0,
            outage_every_seconds=OUTAGE_EVERY_SECONDS if servers else 0.0,
        )
        fair = replace(
            whole,
            every_seconds=FAIR_EVERY_SECONDS[name],
            calls_per_line=MOST_CALLS_PER_LINE,
        )
        plans = {"storm": storm, "fair": fair}
        for kind in [asked.weather] if asked.weather else plans:
            broken += _one(name, kind, plans[kind])
    return 1 if broken else 0


def _one(name: str, kind: str, plan: Plan) -> int:
    """One run and its report; how many promises were broken."""
    with (
        tempfile.TemporaryDirectory(prefix="batchmill-chaos-") as folder,
        STORES[name](Path(folder)) as stores,
    ):
        verdict = run(plan, stores, Path(folder))
    print(f"{stores.name}, {kind}: a blow every {plan.every_seconds:g} s")
    for what, figure in verdict.figures.items():
        print(f"    {what:<24}{figure}")
    for sentence in verdict.broken:
        print(f"    BROKEN: {sentence}")
    print(f"    {'every promise held' if not verdict.broken else 'NOT HELD'}", flush=True)
    return len(verdict.broken)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the same seed deals the same blows")
    parser.add_argument("--lines", type=int, default=100_000, help="lines of all jobs together")
    parser.add_argument("--seconds", type=float, default=240.0, help="for how long to strike")
    parser.add_argument("--on", choices=[*STORES], help="only on these stores")
    parser.add_argument("--weather", choices=["storm", "fair"], help="only this kind of run")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
