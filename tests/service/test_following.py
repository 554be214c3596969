"""One `serve` with two workers whose engines change in the file (app/following.py)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import (
    Serve,
    Sim,
    chat_lines,
    command_of,
    descendants,
    eventually,
    serving,
    simulating,
)

pytestmark = pytest.mark.timeout(90)
LINES = 400


def table(name: str, sim: Sim, key: str = "one") -> str:
    return f'[[engines]]\nname = "{name}"\nurl = "{sim.url}"\nkey = "{key}"\nconcurrency = 20\n'


@pytest.fixture(scope="module")
def sims() -> Iterator[list[Sim]]:
    with simulating("latency=20ms") as one, simulating("latency=20ms") as two:
        yield [one, two]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, sims: list[Sim]) -> Path:
    path = tmp_path_factory.mktemp("following") / "batchmill.toml"
    path.write_text(table("one", sims[0]))
    return path


@pytest.fixture(scope="module")
def serve(file: Path) -> Iterator[Serve]:
    with serving(file.parent / "data", "--config", str(file), "--workers", "2") as running:
        yield running


def workers(serve: Serve) -> list[int]:
    return [pid for pid in descendants(serve.pid) if "batchmill.app.worker" in command_of(pid)]


def run(serve: Serve, lines: int = LINES) -> str:
    return str(serve.create(input_files=[serve.upload(chat_lines(lines))])["id"])


def check(serve: Serve, job: str, lines: int = LINES) -> None:
    """Every line of the job was answered once, in input order."""
    over = serve.wait_ended(job)
    assert (over["status"], over["succeeded_requests"]) == ("SUCCESS", lines)
    ids = [line["custom_id"] for line in serve.lines_of(over["output_file"])]
    assert ids == [f"line-{n}" for n in range(lines)]


def up(serve: Serve) -> list[str]:
    """The engines that are there and answer."""
    engines = serve.http.call("GET", "/v1/engines").json()["data"]
    return [engine["name"] for engine in engines if engine["state"] == "up"]


def says(serve: Serve, event: str) -> bool:
    return event in serve.log.read_text()


def count(sim: Sim) -> int:
    return int(sim.calls()["total"])


def test_a_worker_of_two_that_is_killed_costs_no_line(serve: Serve, sims: list[Sim]) -> None:
    assert len(workers(serve)) == 2
    job = run(serve, 2_000)
    eventually(lambda: count(sims[0]) > 200, 20, "the first calls")
    os.kill(workers(serve)[0], signal.SIGKILL)
    check(serve, job, 2_000)
    eventually(lambda: len(workers(serve)) == 2, 20, "the other life of the worker")


def test_an_engine_that_the_file_gains_is_used_and_one_that_it_loses_is_not(
    serve: Serve, sims: list[Sim], file: Path
) -> None:
    one, two = sims
    file.write_text(table("one", one) + table("two", two))

    def is_used() -> bool:
        check(serve, run(serve))
        return count(two) > 0

    eventually(is_used, 30, "the second engine to be used")
    file.write_text(table("two", two))
    os.kill(serve.pid, signal.SIGHUP)
    eventually(lambda: says(serve, "engine_removed"), 10, "the removal")
    before = count(one)
    check(serve, run(serve))
    assert count(one) == before


def test_a_key_is_changed_in_the_file_without_a_restart(
    serve: Serve, sims: list[Sim], file: Path
) -> None:
    two = sims[1]
    file.write_text(table("two", two))
    os.kill(serve.pid, signal.SIGHUP)
    eventually(lambda: up(serve) == ["two"], 20, "the second engine alone")
    two.control(key="another")
    job = run(serve)

    def reason() -> object:
        return serve.job(job)["progress"]["waiting_reason"]

    eventually(lambda: reason() == "engine_down", 20, "the refusal of the key")
    file.write_text(table("two", two, key="another"))
    os.kill(serve.pid, signal.SIGHUP)
    check(serve, job)


def test_a_mistake_in_the_file_is_one_line_in_the_log(serve: Serve, file: Path) -> None:
    file.write_text("[[engines]]\nname = 3\n")
    os.kill(serve.pid, signal.SIGHUP)
    eventually(lambda: says(serve, "configuration_refused"), 10, "the refusal")
    check(serve, run(serve))
