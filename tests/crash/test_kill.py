"""kill -9, ten times each, in the middle of a job: nothing is lost, nothing doubled.

The engine is a process of its own that counts the calls that reach it whole.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.serving import (
    Serve,
    Sim,
    chat_lines,
    descendants,
    eventually,
    living,
    serving,
    simulating,
)

LINES = 5_000
KILLS = 10
CONCURRENCY = 16
LATENCY_SECONDS = 0.06
GROUP_SECONDS = 0.25 + 0.25
"""A group fills for 250 ms at the latest, and for as long as the one before it is written."""


LEASE = 'lease_time = "4s"\nbeat = "400ms"\n'
"""For so long the calls of a worker that was killed count against the written concurrency."""


def config_of(folder: Path, url: str) -> Path:
    path = folder / "batchmill.toml"
    engine = f'[[engines]]\nname = "counted"\nurl = "{url}"\nconcurrency = {CONCURRENCY}\n'
    path.write_text(LEASE + engine)
    return path


def kill_worker(serve: Serve) -> None:
    kill_child(serve, "worker")


def kill_api(serve: Serve) -> None:
    kill_child(serve, "api")


def kill_child(serve: Serve, name: str) -> None:
    def killed() -> bool:
        pid = serve.child(name)
        if pid is None:
            return False
        os.kill(pid, signal.SIGKILL)
        return True

    eventually(killed, 20, f"a {name} to kill")


def kill_all(serve: Serve) -> None:
    children = descendants(serve.pid)
    serve.kill()
    eventually(
        lambda: not living(children),
        10,
        "every child of a killed serve to end",
    )
    serve.start()


def assert_whole(serve: Serve, sim: Sim, job: dict, kills: int) -> None:
    assert job["status"] == "SUCCESS", job
    assert (job["total_requests"], job["succeeded_requests"]) == (LINES, LINES)
    assert job["failed_requests"] == 0
    assert job["error_file"] is None
    results = serve.lines_of(job["output_file"])
    assert [line["custom_id"] for line in results] == [f"line-{n}" for n in range(LINES)]
    for n, line in enumerate(results):
        content = line["response"]["body"]["choices"][0]["message"]["content"]
        assert f"question {n} id:line-{n}" in content
    calls = sim.calls()
    repeated = calls["total"] - LINES
    group = int(CONCURRENCY / LATENCY_SECONDS * GROUP_SECONDS)
    allowed = kills * (CONCURRENCY + 2 * group)
    assert 0 <= repeated <= allowed, (repeated, allowed)
    assert calls["max_in_flight"] <= CONCURRENCY, "the engine's load was doubled"
    print(f"{kills} kills: {repeated} of {LINES} calls repeated, at most {allowed} allowed")


@pytest.mark.timeout(400)
@pytest.mark.parametrize("kill", [kill_worker, kill_api, kill_all])
def test_a_job_survives_ten_kills(tmp_path: Path, kill: Callable[[Serve], None]) -> None:
    chance = random.Random(kill.__name__)
    with simulating(f"latency={LATENCY_SECONDS}s") as sim:
        config = config_of(tmp_path, sim.url)
        with serving(tmp_path / "data", "--config", str(config)) as serve:
            job = serve.create(input_files=[serve.upload(chat_lines(LINES))])
            shares = sorted(chance.uniform(0.02, 0.95) for _ in range(KILLS))
            kills = 0
            for share in shares:
                eventually(
                    lambda share=share: sim.calls()["total"] >= share * LINES, 120, "progress"
                )
                kill(serve)
                kills += 1
            assert_whole(serve, sim, serve.wait_ended(job["id"], 180), kills)
            children = descendants(serve.pid)
            assert serve.stop() == 0
            assert not living(children)
