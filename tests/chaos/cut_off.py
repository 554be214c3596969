"""Two workers on machines of their own; one of them loses its database while it holds shards.

    python -m tests.chaos.cut_off FOLDER [--seconds 60] [--lease 15]

Runs inside a namespace of `tests.namespaces.enter`. The engine stays within reach, so that nothing
but its own fence keeps the worker from sending. Exit code 0 where every promise held.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from batchmill.core.collect import LATE_SECONDS
from tests import postgres
from tests.chaos.verdict import Verdict, judge_job
from tests.fleet import Fleet, Member
from tests.namespaces import Machine
from tests.serving import Http, Process, chat_lines, eventually

LINES = 8_000
"""Two claims of shards, so that either worker has some."""
CONCURRENCY = 48
LATENCY_SECONDS = 0.05
GROUP_SECONDS = 0.25
MARK = "of the first."
SLACK_SECONDS = 3.0
_HELD = "SELECT DISTINCT owner FROM shard WHERE kind = 'run' AND state = 'leased'"
_LASTING = ("status", "succeeded_requests", "failed_requests", "output_file", "error_file")


def main() -> int:
    """Do it, and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the cable is out")
    parser.add_argument("--lease", type=float, default=15.0, help="lease time in seconds")
    asked = parser.parse_args()
    with ExitStack() as stack:
        verdict = _run(asked.folder, asked.seconds, asked.lease, stack)
    for what, figure in verdict.figures.items():
        print(f"    {what:<36}{figure}")
    for sentence in verdict.broken:
        print(f"    BROKEN: {sentence}")
    return len(verdict.broken)


def _run(folder: Path, cut_seconds: float, lease_seconds: float, stack: ExitStack) -> Verdict:
    verdict = Verdict()
    machines = [Machine(0), Machine(1)]
    for machine in machines:
        stack.callback(machine.remove)
    engine = _engine(stack)
    database = _database(stack)
    some = _fleet(folder, machines, engine, database, lease_seconds, stack)
    door = some.ready()
    file = door.upload(chat_lines(LINES, "question {n} id:line-{n} " + MARK))
    job = str(door.create(input_files=[file])["id"])
    eventually(lambda: _both_work(some, database), 60, "both workers to hold shards")
    cut, machine = some.workers[0], machines[0]
    machine.pull()
    pulled = time.monotonic()
    _fences_itself(cut, machine, lease_seconds, verdict)
    ended = door.wait_ended(job, 120)
    verdict.figures["job ended after"] = _since(pulled)
    verdict.require(
        time.monotonic() - pulled < cut_seconds, "it did not end before the cable was back"
    )
    before = door.http.call("GET", f"/v1/files/{ended['output_file']}/content").body
    judge_job(verdict, ended, door, LINES, MARK)
    _judge_calls(engine, verdict)
    time.sleep(max(0.0, pulled + cut_seconds - time.monotonic()))
    machine.plug()
    eventually(lambda: some.states().get(cut.worker) == "alive", 60, "the worker to be back")
    after = door.http.call("GET", f"/v1/files/{ended['output_file']}/content").body
    verdict.require(before == after, "the results changed when the worker came back")
    same = [door.job(job)[key] == ended[key] for key in _LASTING]
    verdict.require(all(same), "the job changed when the worker came back")
    more = str(door.create(input_files=[file])["id"])
    eventually(lambda: _both_work(some, database), 60, "both workers to work again")
    judge_job(verdict, door.wait_ended(more, 120), door, LINES, MARK)
    return verdict


def _since(moment: float) -> str:
    return f"{time.monotonic() - moment:.1f} s"


def _engine(stack: ExitStack) -> Process:
    spec = f"latency={LATENCY_SECONDS}s"
    engine = Process(["-m", "batchmill.engines.sim", "--host", "0.0.0.0", "--spec", spec])
    engine.ready = engine.start(r"http://[\d.]+:(\d+)/v1")[1]
    stack.callback(engine.kill)
    return engine


def _database(stack: ExitStack) -> postgres.Server:
    database = postgres.Server()
    stack.callback(database.remove)
    database.make()
    database.open_to("10.77.0.0/16")
    database.start()
    database.make_template()
    return database


def _fleet(
    folder: Path,
    machines: list[Machine],
    engine: Process,
    database: postgres.Server,
    lease: float,
    stack: ExitStack,
) -> Fleet:
    """An API on this side, a worker on each machine, one data directory for all."""
    url = database.url(postgres.MIGRATED)
    timing = {"BATCHMILL_LEASE_TIME": f"{lease}s", "BATCHMILL_BEAT": f"{int(lease / 8 * 1000)}ms"}
    data = folder / "data"
    here = _config(folder / "api.toml", f"http://127.0.0.1:{engine.ready}/v1")
    some = Fleet(data, ("--config", here), {"BATCHMILL_DATABASE_URL": url, **timing})
    stack.callback(some.kill)
    some.add_api()
    for machine in machines:
        there = _config(
            folder / f"{machine.number}.toml", f"http://{machine.engine_host}:{engine.ready}/v1"
        )
        words = ("-m", "batchmill", "worker", "--data", str(data), "--config", there)
        reached = url.replace("127.0.0.1", machine.database_host)
        worker = Member(
            f"worker{machine.number}",
            machine.arguments(*words),
            {"BATCHMILL_DATABASE_URL": reached, **timing},
            folder / f"worker{machine.number}.log",
            r"works as (\S+)",
        )
        some.workers.append(worker.start())
    return some


def _config(path: Path, url: str) -> str:
    limit = f"concurrency = {CONCURRENCY}"
    path.write_text(f'[[engines]]\nname = "counted"\nurl = "{url}"\n{limit}\n')
    return str(path)


def _both_work(some: Fleet, database: postgres.Server) -> bool:
    """Whether each of the two holds shards of a job."""
    rows = database.sql(_HELD, postgres.MIGRATED)
    held = {row["owner"].partition("/")[0] for row in rows}
    return held >= {worker.worker for worker in some.workers}


def _fences_itself(cut: Member, machine: Machine, lease_seconds: float, verdict: Verdict) -> None:
    """It says so within the lease time, and then no packet of it reaches the engine but those that
    end a connection or look which models there are."""
    pulled = time.monotonic()
    _wait(lambda: "self_fenced" in cut.log.read_text(), lease_seconds + SLACK_SECONDS, verdict)
    verdict.figures["it fenced itself after"] = _since(pulled)
    time.sleep(1.0)
    calm = _bytes_from(machine)
    time.sleep(2.0)
    sent = _bytes_from(machine) - calm
    verdict.figures["bytes to the engine in 2 s then"] = sent
    verdict.require(sent < 10_000, f"the fenced worker sent {sent} bytes to the engine in 2 s")


def _bytes_from(machine: Machine) -> int:
    """What came through the machine's cable to the engine so far."""
    lines = Path("/proc/self/net/dev").read_text().splitlines()
    [mine] = [line for line in lines if line.strip().startswith(f"near78-{machine.number}:")]
    return int(mine.partition(":")[2].split()[0])


def _wait(holds: Callable[[], bool], seconds: float, verdict: Verdict) -> None:
    try:
        eventually(holds, seconds, "the worker to fence itself")
    except AssertionError as error:
        verdict.broken.append(str(error))


def _judge_calls(engine: Process, verdict: Verdict) -> None:
    """What the cut worker had in flight and in its groups, at most: the second fills until the
    first is found to be late."""
    calls: dict[str, Any] = (
        Http(f"http://127.0.0.1:{engine.ready}").call("GET", "/sim/calls").json()
    )
    repeated = calls["total"] - LINES
    seconds = LATE_SECONDS + 3 * GROUP_SECONDS
    allowed = CONCURRENCY + int(seconds * CONCURRENCY / LATENCY_SECONDS)
    verdict.figures |= {"repeated calls": repeated, "most at once": calls["max_in_flight"]}
    verdict.require(repeated >= 0, "lines were answered without a call")
    verdict.figures["allowed"] = allowed
    verdict.require(repeated <= allowed, f"{repeated} calls repeated, {allowed} allowed")
    verdict.require(calls["max_in_flight"] <= CONCURRENCY, "the limit was passed")


if __name__ == "__main__":
    sys.exit(main())
