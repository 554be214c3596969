"""Duplicates and calls of many embeddings in a whole service, and a kill -9 in the middle of it:
the engine, a process of its own, counts what it was asked."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.serving import Http, Serve, Sim, eventually, serving, simulating

LATENCY_SECONDS = 0.2
CONCURRENCY = 4
PER_CALL = 16
GROUP = int(CONCURRENCY / LATENCY_SECONDS * 0.5)
"""Answers in the group being filled, or being written, when a worker is killed."""


@pytest.fixture(scope="module")
def sim() -> Iterator[Sim]:
    with simulating() as sim:
        yield sim


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory, sim: Sim) -> Iterator[Serve]:
    folder = tmp_path_factory.mktemp("serve")
    config = folder / "batchmill.toml"
    config.write_text(
        f'[[engines]]\nname = "counted"\nurl = "{sim.url}"\nconcurrency = {CONCURRENCY}\n'
        f"embeddings_per_call = {PER_CALL}\n"
    )
    with serving(folder / "data", "--config", str(config)) as serve:
        yield serve


@pytest.fixture(autouse=True)
def counted(sim: Sim) -> None:
    sim.control(latency=0)
    assert sim.http.call("POST", "/sim/reset").status == 200


def lines(count: int, distinct: int, **body: Any) -> bytes:
    """Chats whose texts begin anew after so many."""
    rows = []
    for n in range(count):
        messages = [{"role": "user", "content": f"question {n % distinct}"}]
        rows.append({"custom_id": f"line-{n}", "body": {"messages": messages, **body}})
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def created(serve: Serve, data: bytes, headers: dict[str, str], **fields: Any) -> dict[str, Any]:
    asked = {"endpoint": "/v1/chat/completions", "model": "sim", **fields}
    asked["input_files"] = [serve.upload(data)]
    answer = serve.http.call("POST", "/v1/batch/jobs", asked, headers)
    assert answer.status == 200, answer
    return dict(answer.json())


def assert_answered(serve: Serve, job: dict[str, Any], count: int, distinct: int) -> None:
    results = serve.lines_of(job["output_file"])
    assert [row["custom_id"] for row in results] == [f"line-{n}" for n in range(count)]
    assert len({row["id"] for row in results}) == count
    for n, row in enumerate(results):
        content = row["response"]["body"]["choices"][0]["message"]["content"]
        assert content.endswith(f"question {n % distinct}")


def test_ten_thousand_lines_of_a_hundred_bodies_are_a_hundred_calls(serve: Serve, sim: Sim) -> None:
    data = lines(10_000, 100, temperature=0, max_tokens=100)
    job = created(serve, data, {"x-batchmill-dedupe": "true"})
    assert job["dedupe"] is True
    over = serve.wait_ended(job["id"])
    assert sim.calls()["total"] == 100
    assert_answered(serve, over, 10_000, 100)
    assert over["progress"]["deduplicated"] == 9_900
    batch = serve.http.call("GET", f"/v1/batches/{job['id']}").json()
    results = serve.lines_of(over["output_file"])
    used = [row["response"]["body"]["usage"]["total_tokens"] for row in results[:100]]
    assert batch["usage"]["total_tokens"] == sum(used), "what was spent, not what lines show"


def test_without_dedupe_and_where_chance_draws_every_line_is_sent(serve: Serve, sim: Sim) -> None:
    drawn = created(serve, lines(300, 3, temperature=0.7), {}, dedupe=True)
    plain = created(
        serve, lines(200, 2, temperature=0), {"x-batchmill-dedupe": "true"}, dedupe=False
    )
    for job in (drawn, plain):
        assert serve.wait_ended(job["id"])["progress"]["deduplicated"] == 0
    assert sim.calls()["total"] == 500


def test_a_killed_worker_costs_no_more_than_what_was_under_way(serve: Serve, sim: Sim) -> None:
    sim.control(latency=f"{LATENCY_SECONDS}s")
    job = created(serve, lines(6_000, 60, temperature=0, max_tokens=100), {}, dedupe=True)
    for share in (0.3, 0.7):
        eventually(lambda share=share: sim.calls()["total"] >= 60 * share, 60, "progress")
        worker = serve.child("worker")
        assert worker is not None
        os.kill(worker, signal.SIGKILL)
    over = serve.wait_ended(job["id"], 120)
    assert over["status"] == "SUCCESS", over
    assert_answered(serve, over, 6_000, 60)
    assert 0 <= sim.calls()["total"] - 60 <= 2 * (CONCURRENCY + 2 * GROUP)
    assert over["progress"]["deduplicated"] == 5_940


def test_embeddings_go_many_in_a_call_and_each_has_its_own(serve: Serve, sim: Sim) -> None:
    rows = [{"custom_id": f"line-{n}", "body": {"input": f"text {n}"}} for n in range(640)]
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    over = serve.wait_ended(created(serve, data, {}, endpoint="/v1/embeddings")["id"])
    calls = sim.calls()["total"]
    assert 640 / PER_CALL <= calls <= 2 * 640 / PER_CALL
    results = serve.lines_of(over["output_file"])
    assert [row["custom_id"] for row in results] == [f"line-{n}" for n in range(640)]
    engine = Http(sim.url)
    for n in range(0, 640, 71):
        body = results[n]["response"]["body"]
        alone = engine.call("POST", "/embeddings", {"model": "sim", "input": f"text {n}"}).json()
        assert body["data"] == alone["data"]
        assert body.keys() == alone.keys()
