"""One large job over 1, 2 and 4 workers on PostgreSQL: lines a second, and what each part costs.

    python -m bench.scaling [--lines 1000000] [--workers 1 2 4]

The engine is nginx, which is not the bottleneck; blobs are local files, which all workers share.
On a machine of few cores more workers show what sharing a ledger costs, not how a fleet scales.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench import nginx
from bench.inputs import MODEL, write_input
from bench.processes import Failure, children, cpu_seconds, wait_until
from tests import postgres
from tests.fleet import Fleet, fleet

IN_FLIGHT = 256
"""For each worker."""
LINE_BYTES = 400
JOB_SECONDS = 1200.0
_COUNTERS = """
SELECT xact_commit::float8 AS transactions, pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8
AS wal, numbackends::float8 AS connections FROM pg_stat_database WHERE datname = $1
"""


@dataclass(frozen=True, slots=True)
class Spent:
    """What has been used so far."""

    workers: float
    api: float
    database: float
    transactions: float
    wal: float
    connections: float


def main() -> int:
    """Measure and print one row for each number of workers."""
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    asked = parser.parse_args()
    print("| workers | lines/s | worker us/line | ledger us/line | ledger's share of CPU |", end="")
    print(" transactions | WAL | connections |\n|---|---|---|---|---|---|---|---|", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="batchmill-scaling-") as folder,
        nginx.instant_engine(Path(folder) / "nginx") as origin,
        postgres.serving(durable=True) as server,
    ):
        batch = write_input(Path(folder) / "input.jsonl", asked.lines, LINE_BYTES)
        for workers in asked.workers:
            with server.database(movable=False) as (name, _):
                home = Path(folder) / str(workers)
                home.mkdir()
                print(
                    _measured(workers, batch, asked.lines, origin, server, name, home), flush=True
                )
    return 0


def _measured(
    workers: int,
    batch: Path,
    lines: int,
    origin: str,
    server: postgres.Server,
    name: str,
    home: Path,
) -> str:
    with _running(workers, origin, server.url(name), home) as some:
        door = some.ready()
        file = door.upload(batch.read_bytes())
        before = _spent(some, server, name)
        job = str(door.create(input_files=[file], model=MODEL)["id"])
        wait_until(lambda: door.job(job)["completed_requests"] > 0, 300, "the first lines", 0.2)
        began = time.monotonic()
        wait_until(lambda: door.job(job)["completed_at"] is not None, JOB_SECONDS, "the end", 0.5)
        seconds, after = time.monotonic() - began, _spent(some, server, name)
        if door.job(job)["succeeded_requests"] != lines:
            raise Failure(f"the job ended as {door.job(job)}")
    ledger, worked = after.database - before.database, after.workers - before.workers
    whole = ledger + worked + after.api - before.api
    return (
        f"| {workers} | {lines / seconds:,.0f} | {worked / lines * 1e6:.1f} "
        f"| {ledger / lines * 1e6:.1f} | {ledger / whole:.1%} "
        f"| {after.transactions - before.transactions:,.0f} "
        f"| {(after.wal - before.wal) / 1e6:,.0f} MB | {after.connections:.0f} |"
    )


@contextmanager
def _running(workers: int, origin: str, url: str, home: Path) -> Iterator[Fleet]:
    config = home / "batchmill.toml"
    limit = f"concurrency = {IN_FLIGHT * workers}"
    config.write_text(f'[[engines]]\nname = "bench"\nurl = "{origin}/v1"\n{limit}\n')
    words = ("--config", str(config))
    with fleet(home / "data", *words, workers=workers, BATCHMILL_DATABASE_URL=url) as some:
        yield some


def _spent(some: Fleet, server: postgres.Server, name: str) -> Spent:
    [row] = server.sql(_COUNTERS.strip(), "postgres", name)
    return Spent(
        workers=sum(_cpu(worker.pid) for worker in some.workers),
        api=sum(_cpu(api.pid) for api in some.apis),
        database=_cpu(server.pid),
        transactions=row["transactions"],
        wal=row["wal"],
        connections=row["connections"],
    )


def _cpu(pid: int) -> float:
    """CPU seconds of a process, of its children that live and of those that have ended."""
    return cpu_seconds(pid, with_ended=True) + sum(_cpu_of(child) for child in children(pid))


def _cpu_of(child: int) -> float:
    """Nothing where it has just ended: then its parent's figure has it next time."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return _cpu(child)
    return 0.0


if __name__ == "__main__":
    sys.exit(main())
