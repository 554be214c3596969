"""kill -9 while a child copies what it keeps: it goes on, and no kept line is sent again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.crash.test_results import kill_all
from tests.serving import Serve, serving, simulating

LINES = 30_000
FAILS = 10
PAD = "x" * 800


def lines() -> bytes:
    """Every tenth line is refused the first time."""
    rows = []
    for n in range(LINES):
        fault = "!status:422*1" if n % FAILS == 0 else ""
        body = {"messages": [{"role": "user", "content": f"q{n} {fault} {PAD}"}]}
        rows.append(json.dumps({"custom_id": f"line-{n}", "body": body}))
    return ("\n".join(rows) + "\n").encode()


def kept(serve: Serve, job: str) -> int:
    """How many blobs the child has copied so far."""
    return len(list((Path(serve.data) / "blobs" / "jobs" / job / "kept").glob("*")))


@pytest.mark.timeout(300)
def test_a_retry_killed_while_it_copies_is_whole(tmp_path: Path) -> None:
    with simulating() as sim:
        config = tmp_path / "batchmill.toml"
        config.write_text(f'[[engines]]\nname = "sim"\nurl = "{sim.url}"\n')
        with serving(tmp_path / "data", "--config", str(config)) as serve:
            job = serve.create(input_files=[serve.upload(lines())])["id"]
            parent = serve.wait_ended(job, 120)
            assert parent["failed_requests"] == LINES // FAILS
            before = sim.calls()["total"]
            answer = serve.http.call("POST", f"/v1/batch/jobs/{job}/retry")
            assert answer.status == 200
            child = answer.json()["id"]
            seen: list[int] = []
            for _ in range(3):
                while serve.job(child)["status"] == "QUEUED" and kept(serve, child) <= sum(
                    seen[-1:]
                ):
                    pass
                seen.append(kept(serve, child))
                kill_all(serve)
            ended = serve.wait_ended(child, 120)
            assert (ended["status"], ended["succeeded_requests"]) == ("SUCCESS", LINES)
            assert ended["error_file"] is None
            out = serve.lines_of(ended["output_file"])
            assert [line["custom_id"] for line in out] == [f"line-{n}" for n in range(LINES)]
            repeated = sim.calls()["total"] - before - LINES // FAILS
            print(f"killed with {seen} of {LINES // 1024 + 1} shards copied; {repeated} repeated")
            assert 0 < seen[0] < LINES // 1024
            assert 0 <= repeated <= 3 * (64 + 2 * 1024)
