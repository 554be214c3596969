"""Workers as Ray actors: a job runs on two nodes, one is killed, and every line is there once."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from batchmill.app.stores import open_ledger
from batchmill.config import load
from batchmill.fleet import Worker
from tests.serving import (
    Serve,
    chat_lines,
    descendants,
    eventually,
    living,
    serving,
    simulating,
)

LINES = 5_000
SECRET = "sk-0123456789-not-to-be-seen"
CONCURRENCY = 16
NODES = Path(__file__).parent / "ray_nodes.py"
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Without clusters over several machines Ray keeps to loopback.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "PYTHONWARNINGS": "ignore",
}

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None and not os.environ.get("CI"),
    reason="Ray is not installed",
)


class Nodes:
    """The process that holds the Ray cluster."""

    def __init__(self, process: subprocess.Popen[str], log: Path, folder: Path) -> None:
        self._process, self._log, self._folder = process, log, folder
        self.pids: list[int] = self._answer()["nodes"]

    def kill_one(self) -> int:
        """kill -9 for all processes of a node; the pid of its first."""
        assert self._process.stdin is not None
        self._process.stdin.write("kill\n")
        self._process.stdin.flush()
        return self._answer()["killed"]

    def stop(self) -> int:
        """Drain the workers and end the cluster; the exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(60)

    def shown(self) -> bytes:
        """All that others may read of it: logs, arguments and environments."""
        files = [self._log, *self._folder.rglob("*")]
        for pid in descendants(self._process.pid):
            files += [Path(f"/proc/{pid}/{name}") for name in ("cmdline", "environ")]
        texts = []
        for file in files:
            with contextlib.suppress(OSError):  # a process that ended meanwhile, a socket
                texts.append(file.read_bytes())
        return b"".join(texts)

    def _answer(self) -> dict:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise AssertionError(self._log.read_text()[-3000:])


@contextmanager
def nodes(config: Path) -> Iterator[Nodes]:
    log = config.with_suffix(".log")
    with (
        log.open("w") as errors,
        tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder,
    ):
        # Its sockets need short names, so not below pytest's folder.
        process = subprocess.Popen(
            [sys.executable, str(NODES), str(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **SETTINGS, "RAY_TMPDIR": folder},
        )
        try:
            yield Nodes(process, log, Path(folder))
        finally:
            started = descendants(process.pid)
            if process.poll() is None:
                process.kill()
                process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()
            eventually(lambda: not living(started), 30, "every process of Ray to end")


def workers(config: Path) -> tuple[Worker, ...]:
    """The workers as the ledger knows them."""

    async def look() -> tuple[Worker, ...]:
        ledger = await open_ledger(load({"config": config}))
        try:
            return await ledger.workers()
        finally:
            await ledger.close_connections()

    return asyncio.run(look())


def busy(config: Path, node: int) -> bool:
    """Whether a worker on that node has lines at an engine."""
    its = descendants(node)
    return any(
        worker.pid in its and any(gauge.in_flight for gauge in worker.beat.gauges.values())
        for worker in workers(config)
        if worker.alive
    )


@needs_ray
@pytest.mark.serial  # Ray gives its own servers 30 s to start, and no setting changes that
@pytest.mark.timeout(300)
def test_a_job_on_two_nodes_survives_the_death_of_one(tmp_path: Path) -> None:
    config = tmp_path / "batchmill.toml"
    with simulating("latency=50ms") as sim:
        config.write_text(
            f'data = "{tmp_path / "data"}"\nbeat = "500ms"\nlease_time = "5s"\n'
            f'[[engines]]\nname = "counted"\nurl = "{sim.url}"\nconcurrency = {CONCURRENCY}\n'
            f'key = "{SECRET}"\n'
        )
        with (
            serving(tmp_path / "data", "--config", str(config), "--role", "api") as serve,
            nodes(config) as ray,
        ):
            job = serve.create(input_files=[serve.upload(chat_lines(LINES))])
            for node in ray.pids:
                eventually(lambda node=node: busy(config, node), 60, f"node {node} to work")
            assert b"ray_worker_started" in ray.shown()
            assert SECRET.encode() not in ray.shown()
            killed = ray.kill_one()
            assert killed in ray.pids
            assert serve.job(job["id"])["status"] == "RUNNING"
            assert_whole(serve, serve.wait_ended(job["id"], 120))
            repeated = sim.calls()["total"] - LINES
            assert 0 <= repeated <= 10 * CONCURRENCY, repeated
            assert ray.stop() == 0


def assert_whole(serve: Serve, job: dict) -> None:
    assert (job["status"], job["succeeded_requests"]) == ("SUCCESS", LINES), job
    assert job["error_file"] is None
    results = serve.lines_of(job["output_file"])
    assert [line["custom_id"] for line in results] == [f"line-{n}" for n in range(LINES)]
