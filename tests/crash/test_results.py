"""A consumer of `results` dies and comes back, and so does the server: every line comes once."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.serving import Serve, chat_lines, descendants, eventually, living, serving, simulating

LINES = 3_000
JOBS = "/v1/batch/jobs"


class Consumer:
    """Keeps what it has read and the last cursor, as a careful client would."""

    def __init__(self, serve: Serve, job: str) -> None:
        self._serve, self._job = serve, job
        self.read: list[dict] = []
        self.cursor = ""

    def consume(self, limit: int) -> bool:
        """Read up to `limit` lines of a stream and leave in its middle; True at its end."""
        path = f"{JOBS}/{self._job}/results?follow=true"
        path += f"&after={quote(self.cursor)}" if self.cursor else ""
        connection = http.client.HTTPConnection("127.0.0.1", self._serve.port, timeout=30)
        with (
            contextlib.suppress(OSError, http.client.HTTPException),
            contextlib.closing(connection),
        ):
            connection.request("GET", path)
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            for _ in range(limit):
                line = answer.readline()
                if not line:
                    return True
                if not line.endswith(b"\n"):
                    return False
                found = json.loads(line)
                self.read.append(found)
                self.cursor = found["cursor"]
        return False


def kill_all(serve: Serve) -> None:
    children = descendants(serve.pid)
    serve.kill()
    eventually(lambda: not living(children), 10, "every child of a killed serve to end")
    serve.start()


def kill_worker(serve: Serve) -> None:
    pid = serve.child("worker")
    if pid is not None:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.timeout(240)
def test_a_consumer_that_dies_again_and_again_reads_every_line_once(tmp_path: Path) -> None:
    chance = random.Random(7)
    with simulating("latency=30ms,rate_400=0.1") as sim:
        config = tmp_path / "batchmill.toml"
        config.write_text(f'[[engines]]\nname = "sim"\nurl = "{sim.url}"\nconcurrency = 32\n')
        with serving(tmp_path / "data", "--config", str(config)) as serve:
            job = serve.create(input_files=[serve.upload(chat_lines(LINES))])["id"]
            consumer = Consumer(serve, job)
            deaths = 0
            while not consumer.consume(chance.randrange(1, LINES // 4)):
                deaths += 1
                if deaths in {2, 5}:
                    kill_all(serve)
                elif deaths in {3, 7}:
                    kill_worker(serve)
            ended = serve.wait_ended(job)
            assert deaths > 4
            ids = [line["custom_id"] for line in consumer.read]
            assert sorted(ids) == sorted(f"line-{n}" for n in range(LINES))
            files = serve.lines_of(ended["output_file"]) + serve.lines_of(ended["error_file"])
            for line in consumer.read:
                del line["cursor"]
            by_id = {line["custom_id"]: line for line in consumer.read}
            assert by_id == {line["custom_id"]: line for line in files}
            summary = {each["code"]: each["count"] for each in ended["error_summary"]}
            assert sum(summary.values()) == ended["failed_requests"] > 0
            print(f"{deaths} deaths of the consumer; {summary}")
