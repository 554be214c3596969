"""The same create sent a hundred times, by many at once and across kills of `serve`: one job."""

from __future__ import annotations

import asyncio
import http.client
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.crash.sweeping import uploaded_blobs_left
from tests.serving import Serve, descendants, eventually, living, serving

SENDS = 100
SENDERS = 8
KILL_AFTER = (5, 30, 60)
"""A kill each when so many were answered."""
ORDER = {
    "endpoint": "/v1/chat/completions",
    "model": "sim",
    "requests": [
        {"custom_id": f"c{n}", "body": {"messages": [{"role": "user", "content": "x" * 2000}]}}
        for n in range(500)
    ],
}


class Senders:
    """Sends one create until it was answered a hundred times, whatever happens meanwhile."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._lock = threading.Lock()
        self.jobs: list[dict[str, Any]] = []
        self.failed = 0

    def send(self, _: int) -> None:
        key = {"idempotency-key": "one-key"}
        while True:
            try:
                answer = self._serve.http.call("POST", "/v1/batch/jobs", ORDER, key)
            except (OSError, http.client.HTTPException):
                with self._lock:
                    self.failed += 1
                threading.Event().wait(0.05)
                continue
            assert answer.status == 200, answer
            with self._lock:
                self.jobs.append(answer.json())
            return


@pytest.mark.timeout(240)
def test_a_create_sent_a_hundred_times_across_kills_makes_one_job(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data, "--engine", "sim") as serve:
        senders = Senders(serve)
        with ThreadPoolExecutor(SENDERS) as pool:
            sent = pool.map(senders.send, range(SENDS))
            for answered in KILL_AFTER:
                eventually(lambda n=answered: len(senders.jobs) >= n, 60, "answers")
                children = descendants(serve.pid)
                serve.kill()
                eventually(lambda c=children: not living(c), 10, "every child to end")
                serve.start()
            list(sent)
        assert senders.failed > 0, "no create was under way at any kill"
        assert {job["id"] for job in senders.jobs} == {senders.jobs[0]["id"]}
        assert serve.http.call("GET", "/v1/batch/jobs").json()["total"] == 1
        inputs = serve.http.call("GET", "/v1/files?source=mistral&sample_type=batch_request")
        assert inputs.json()["total"] == 1
        job = serve.wait_ended(senders.jobs[0]["id"])
        assert (job["status"], job["succeeded_requests"]) == ("SUCCESS", 500)
        assert serve.stop() == 0
    left = asyncio.run(uploaded_blobs_left(data))
    assert len(left) == 1, left
