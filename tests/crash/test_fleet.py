"""Several workers and API processes on one data directory: killed, frozen, restarted one after the
other, nothing is lost and nothing doubled.

The engine is a process of its own that counts the calls that reach it whole.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.fleet import Fleet, Member, fleet
from tests.serving import Serve, Sim, chat_lines, eventually, living, serving, simulating

pytestmark = pytest.mark.timeout(300)

LEASE_SECONDS = 4.0
QUICK = {"BATCHMILL_LEASE_TIME": f"{LEASE_SECONDS}s", "BATCHMILL_BEAT": "250ms"}
SLACK_SECONDS = 4.0
"""What a busy test machine may add to what is promised."""
CONCURRENCY = 8
UNREACHED = ("--engine", "http://127.0.0.1:1/v1")
"""An engine that is configured, so that jobs for it are taken, and that nobody has seen."""


def config_of(folder: Path, url: str) -> tuple[str, str]:
    path = folder / "batchmill.toml"
    path.write_text(f'[[engines]]\nname = "counted"\nurl = "{url}"\nconcurrency = {CONCURRENCY}\n')
    return "--config", str(path)


def asked(folder: Fleet, statement: str) -> list[Any]:
    """What the ledger's database answers."""
    with closing(sqlite3.connect(folder.data / "ledger.sqlite", timeout=10)) as ledger:
        return ledger.execute(statement).fetchall()


def held_by(some: Fleet, worker: Member) -> int:
    """How many shards the ledger says that this worker holds."""
    of_it = f"owner LIKE '{worker.worker}/%'"
    [[shards]] = asked(
        some, f"SELECT count(*) FROM shard WHERE kind = 'run' AND state = 'leased' AND {of_it}"
    )
    return int(shards)


def freeze_between_writes(some: Fleet, worker: Member) -> None:
    """Freeze it while it does not write: frozen in the middle of a transaction it would keep
    SQLite's lock, and nobody could go on before it does."""
    for _ in range(20):
        worker.freeze()
        if is_writable(some):
            return
        worker.thaw()
        time.sleep(0.05)
    raise AssertionError(f"{worker.name} writes all the time")


def is_writable(some: Fleet) -> bool:
    """Whether a transaction may begin."""
    with closing(sqlite3.connect(some.data / "ledger.sqlite", timeout=1)) as ledger:
        try:
            ledger.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        ledger.rollback()
        return True


def is_draining(some: Fleet, worker: Member) -> bool:
    """Whether its last beat says so."""
    [[beat]] = asked(some, f"SELECT beat FROM worker WHERE id = '{worker.worker}'")
    return bool(json.loads(beat)["draining"])


def assert_whole(door: Serve, job: dict[str, Any], lines: int) -> None:
    """Every line stands once, in input order, with its own answer."""
    assert job["status"] == "SUCCESS", job
    assert (job["succeeded_requests"], job["failed_requests"]) == (lines, 0)
    results = door.lines_of(job["output_file"])
    assert [line["custom_id"] for line in results] == [f"line-{n}" for n in range(lines)]
    for n, line in enumerate(results):
        content = line["response"]["body"]["choices"][0]["message"]["content"]
        assert f"question {n} id:line-{n}" in content


def progressed(sim: Sim, calls: int) -> None:
    eventually(lambda: sim.calls()["total"] >= calls, 120, f"{calls} calls")


class Watcher(threading.Thread):
    """A client that asks ready API processes all the time, and remembers what went wrong."""

    def __init__(self, some: Fleet, path: str) -> None:
        super().__init__(daemon=True)
        self._fleet, self._path = some, path
        self._over = threading.Event()
        self.answers = 0
        self.problems: list[str] = []

    def run(self) -> None:
        while not self._over.is_set():
            try:
                answer = self._fleet.get(self._path)
            except (OSError, AssertionError) as error:
                self.problems.append(repr(error))
            else:
                self.answers += 1
                if answer.status != 200:
                    self.problems.append(str(answer))
            self._over.wait(0.05)

    def finish(self) -> None:
        self._over.set()
        self.join(60)


def roll(some: Fleet) -> None:
    """Restart every process, one after the other, by SIGTERM."""
    for member in (*some.workers, *some.apis):
        assert member.drain() == 0, member.log.read_text()[-2000:]
        member.start()
        if member in some.apis:
            eventually(lambda api=member: some.is_ready(api), 60, "the API to be ready")


def test_a_rolling_restart_with_time_to_drain_sends_no_line_twice(tmp_path: Path) -> None:
    lines = 2_000
    with simulating("latency=100ms") as sim:
        arguments = config_of(tmp_path, sim.url)
        data = tmp_path / "data"
        with fleet(
            data, *arguments, workers=2, apis=2, BATCHMILL_DRAIN_TIME="30s", **QUICK
        ) as all_:
            door = all_.ready()
            job = door.create(input_files=[door.upload(chat_lines(lines))])
            watcher = Watcher(all_, f"/v1/batch/jobs/{job['id']}")
            watcher.start()
            progressed(sim, 100)
            roll(all_)
            ended = all_.ready().wait_ended(job["id"], 120)
            watcher.finish()
            assert_whole(all_.ready(), ended, lines)
            calls = sim.calls()
            assert (calls["total"], calls["aborted"]) == (lines, 0)
            assert watcher.problems == []
            assert watcher.answers > 10


def test_a_restart_without_time_to_drain_repeats_only_calls_that_were_not_answered(
    tmp_path: Path,
) -> None:
    lines = 24
    drain_seconds = 5  # less than half of a call: those that have just begun have to be given up
    drain = {"BATCHMILL_DRAIN_TIME": f"{drain_seconds}s"}
    with simulating("latency=12s") as sim:
        arguments = config_of(tmp_path, sim.url)
        data = tmp_path / "data"
        with fleet(data, *arguments, workers=2, **drain, **QUICK) as all_:
            door = all_.ready()
            job = door.create(input_files=[door.upload(chat_lines(lines))])
            progressed(sim, CONCURRENCY + 1)
            for worker in all_.workers:
                began = time.monotonic()
                assert worker.drain() == 0
                assert time.monotonic() - began < drain_seconds + SLACK_SECONDS
                worker.start()
            assert_whole(door, door.wait_ended(job["id"], 120), lines)
            calls = sim.calls()
            answered = calls["by_status"].pop("200")
            assert calls["by_status"] == {}
            assert calls["total"] == answered + calls["aborted"]
            # an answer may be under way when its call is given up: the engine has counted it
            assert lines <= answered <= lines + CONCURRENCY
            assert calls["aborted"] > 0, "the drain gave every call its time"


def test_a_worker_that_drains_says_so_and_has_left_when_it_is_gone(tmp_path: Path) -> None:
    drain = {"BATCHMILL_DRAIN_TIME": "30s"}
    with simulating("latency=4s") as sim:
        arguments = config_of(tmp_path, sim.url)
        with fleet(tmp_path / "data", *arguments, workers=1, **QUICK, **drain) as all_:
            [worker], door = all_.workers, all_.ready()
            door.create(input_files=[door.upload(chat_lines(CONCURRENCY))])
            progressed(sim, CONCURRENCY)
            worker.ask_to_end()
            eventually(lambda: is_draining(all_, worker), 10, "it to say that it drains")
            assert worker.drained() == 0
            assert all_.states()[worker.worker] == "left"
            assert sim.calls()["aborted"] == 0


def test_the_shards_of_a_killed_worker_are_taken_over_within_the_lease_time(
    tmp_path: Path,
) -> None:
    lines = 4_000
    with simulating("latency=60ms") as sim:
        arguments = config_of(tmp_path, sim.url)
        with fleet(tmp_path / "data", *arguments, workers=3, **QUICK) as all_:
            door = all_.ready()
            job = door.create(input_files=[door.upload(chat_lines(lines))])
            progressed(sim, 500)
            victim = all_.workers[0]
            eventually(lambda: held_by(all_, victim) > 0, 30, "shards to take")
            victim.kill()
            killed, lost = time.monotonic(), held_by(all_, victim)
            eventually(lambda: held_by(all_, victim) == 0, 60, "its shards to be taken over")
            took = time.monotonic() - killed
            print(f"{lost} shards of a dead worker taken over after {took:.1f} s")
            assert took < LEASE_SECONDS + 2 + SLACK_SECONDS
            assert_whole(door, door.wait_ended(job["id"], 180), lines)
            assert 0 <= sim.calls()["total"] - lines <= CONCURRENCY + 2 * 100
            assert all_.states()[victim.worker] == "dead"


def test_a_worker_that_was_frozen_past_its_lease_doubles_nothing(tmp_path: Path) -> None:
    lines = 3_000
    with simulating("latency=60ms") as sim:
        arguments = config_of(tmp_path, sim.url)
        with fleet(tmp_path / "data", *arguments, workers=3, **QUICK) as all_:
            door = all_.ready()
            job = door.create(input_files=[door.upload(chat_lines(lines))])
            progressed(sim, 300)
            victim = next(each for each in all_.workers if held_by(all_, each) > 0)
            freeze_between_writes(all_, victim)
            eventually(lambda: held_by(all_, victim) == 0, 60, "its shards to be taken over")
            victim.thaw()
            assert_whole(door, door.wait_ended(job["id"], 180), lines)
            assert 0 <= sim.calls()["total"] - lines <= CONCURRENCY + 2 * 100
            assert victim.drain() == 0


def test_a_job_is_validated_and_cancelled_while_no_worker_lives(tmp_path: Path) -> None:
    lines = 20_000
    with fleet(tmp_path / "data", *UNREACHED, workers=0, **QUICK) as all_:
        door = all_.ready()
        job = door.create(input_files=[door.upload(chat_lines(lines))])["id"]
        batch = f"/v1/batches/{job}"
        eventually(
            lambda: door.http.call("GET", batch).json()["status"] == "in_progress", 60, "validation"
        )
        assert door.job(job)["progress"]["waiting_reason"] == "no_worker"
        began = time.monotonic()
        assert door.http.call("POST", f"{batch}/cancel").status == 200
        ended = door.wait_ended(job, 30)
        print(f"{lines} lines cancelled without a worker in {time.monotonic() - began:.1f} s")
        assert (ended["status"], ended["failed_requests"]) == ("CANCELLED", lines)
        assert len(door.lines_of(ended["error_file"])) == lines


def test_what_a_dead_worker_held_of_a_cancelled_job_is_settled_before_its_lease_runs_out(
    tmp_path: Path,
) -> None:
    with simulating("latency=30s") as sim:
        arguments = config_of(tmp_path, sim.url)
        with fleet(tmp_path / "data", *arguments, workers=1, BATCHMILL_LEASE_TIME="5m") as all_:
            door = all_.ready()
            job = door.create(input_files=[door.upload(chat_lines(100))])["id"]
            progressed(sim, CONCURRENCY)
            all_.workers[0].kill()
            assert door.http.call("POST", f"/v1/batch/jobs/{job}/cancel").status == 200
            ended = door.wait_ended(job, 30)
            assert (ended["status"], ended["failed_requests"]) == ("CANCELLED", 100)


def test_the_api_answers_while_a_large_job_is_validated(tmp_path: Path) -> None:
    lines = 200_000
    with fleet(tmp_path / "data", *UNREACHED, workers=0) as all_:
        door = all_.ready()
        file = door.upload(chat_lines(lines))
        job = door.create(input_files=[file])["id"]
        took: list[float] = []

        def is_validated() -> bool:
            began = time.monotonic()
            answer = door.http.call("GET", f"/v1/batches/{job}").json()
            took.append(time.monotonic() - began)
            return answer["status"] != "validating"

        eventually(is_validated, 120, "validation")
        took.sort()
        worst, median = took[-1], took[len(took) // 2]
        print(f"{len(took)} requests meanwhile: median {median * 1e3:.0f} ms, worst {worst:.3f} s")
        assert len(took) >= 3, "it answered nobody while it validated"


def test_a_serve_restarts_beside_a_worker_and_leaves_it_its_shards(tmp_path: Path) -> None:
    with simulating("latency=2s") as sim:
        arguments = config_of(tmp_path, sim.url)
        data = tmp_path / "data"
        with (
            fleet(data, *arguments, workers=1, apis=0) as all_,
            serving(data, "--engine", "http://127.0.0.1:1/v1") as serve,
        ):
            [worker] = all_.workers
            job = serve.create(input_files=[serve.upload(chat_lines(3 * CONCURRENCY))])["id"]
            progressed(sim, CONCURRENCY)
            serve.kill()
            serve.start()
            assert_whole(serve, serve.wait_ended(job, 60), 3 * CONCURRENCY)
            assert sim.calls()["total"] == 3 * CONCURRENCY
            [[owner, epoch]] = asked(all_, "SELECT owner, epoch FROM shard WHERE kind = 'run'")
            assert (owner.partition("/")[0], epoch) == (worker.worker, 1)


def test_a_worker_works_alone_and_a_second_serve_is_still_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with fleet(data, "--engine", "sim", workers=2, apis=0) as all_:
        names = [worker.worker for worker in all_.workers]
        assert len(set(names)) == 2
        assert [all_.states()[name] for name in names] == ["alive", "alive"]
        with serving(data, "--engine", "sim"):
            command = [sys.executable, "-m", "batchmill", "serve", "--data", str(data)]
            second = subprocess.run(
                [*command, "--port", "0"], capture_output=True, text=True, check=False, timeout=60
            )
            assert second.returncode == 2
            assert "is in use by another batchmill serve" in second.stderr


def test_the_shards_of_a_child_that_dies_are_opened_by_its_parent_at_once(tmp_path: Path) -> None:
    """Its shares of limits run out like leases, so the engine has none here."""
    lines = 200
    with simulating("latency=300ms,batch=8") as sim:
        arguments = ("--engine", sim.url)
        with fleet(tmp_path / "data", *arguments, workers=1, BATCHMILL_LEASE_TIME="10m") as all_:
            door, [worker] = all_.ready(), all_.workers
            job = door.create(input_files=[door.upload(chat_lines(lines))])["id"]
            progressed(sim, 20)
            [child] = worker.pids()[1:]
            os.kill(child, 9)
            assert_whole(door, door.wait_ended(job, 60), lines)
            assert not living([child])
            [before] = asked(all_, "SELECT max(epoch) FROM shard WHERE kind = 'run'")
            assert before == (2,)
