"""Engines at their worst: no line fails that was not at fault, the job says why it waits, and
it ends.

Each test runs a whole `serve` against a `sim` engine in a process of its own.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.serving import Serve, Sim, eventually, serving, simulating

pytestmark = pytest.mark.timeout(240)


@dataclass
class Rig:
    serve: Serve
    sim: Sim

    def job_of(self, texts: list[str], **fields: object) -> str:
        """A job whose line n says texts[n]."""
        lines = (
            json.dumps(
                {
                    "custom_id": f"line-{n}",
                    "body": {"messages": [{"role": "user", "content": f"{text} id:line-{n}"}]},
                }
            )
            for n, text in enumerate(texts)
        )
        file = self.serve.upload(("\n".join(lines) + "\n").encode())
        return str(self.serve.create(input_files=[file], **fields)["id"])

    def reason(self, job: str) -> str | None:
        return self.serve.job(job)["progress"]["waiting_reason"]

    def done(self, job: str) -> int:
        return int(self.serve.job(job)["completed_requests"])

    def assert_all_answered(self, job: str, count: int, seconds: float = 60.0) -> None:
        ended = self.serve.wait_ended(job, seconds)
        assert (ended["status"], ended["failed_requests"]) == ("SUCCESS", 0), ended
        ids = [line["custom_id"] for line in self.serve.lines_of(ended["output_file"])]
        assert ids == [f"line-{n}" for n in range(count)]

    def assert_only_failed(self, job: str, count: int, bad: dict[int, str], seconds: float) -> dict:
        """Only these lines failed, each with that code; all others were answered."""
        ended = self.serve.wait_ended(job, seconds)
        assert ended["status"] == "SUCCESS", ended
        failed = self.serve.lines_of(ended["error_file"])
        codes = {line["custom_id"]: line["error"]["code"] for line in failed}
        assert codes == {f"line-{n}": code for n, code in bad.items()}
        answered = [line["custom_id"] for line in self.serve.lines_of(ended["output_file"])]
        assert answered == [f"line-{n}" for n in range(count) if n not in bad]
        assert ended["failed_requests"] == len(bad)
        return {line["custom_id"]: line for line in failed}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with simulating("latency=20ms") as sim:
        config = tmp_path / "batchmill.toml"
        config.write_text(
            f'[[engines]]\nname = "bad"\nurl = "{sim.url}"\nkey = "sesame"\n'
            'concurrency = 8\ntimeout = "2s"\n'
        )
        with serving(tmp_path / "data", "--config", str(config)) as serve:
            yield Rig(serve, sim)


def test_a_key_revoked_for_a_while_fails_no_line(rig: Rig) -> None:
    job = rig.job_of(["question"] * 3000)
    eventually(lambda: rig.done(job) > 100, 20, "progress")
    rig.sim.control(key="another")
    eventually(lambda: rig.reason(job) == "engine_down", 20, "the reason")
    asked = rig.sim.calls()["total"]
    time.sleep(60)
    assert rig.sim.calls()["total"] - asked < 90, "an engine that refuses our key is hammered"
    assert rig.serve.job(job)["failed_requests"] == 0
    rig.sim.control(key="sesame")
    rig.assert_all_answered(job, 3000)


def test_a_model_that_is_unloaded_and_back_fails_no_line(rig: Rig) -> None:
    job = rig.job_of(["question"] * 3000)
    eventually(lambda: rig.done(job) > 100, 20, "progress")
    rig.sim.control(models=["other"])
    eventually(lambda: rig.reason(job) == "model_not_served", 20, "the reason")
    time.sleep(6)
    assert rig.serve.job(job)["failed_requests"] == 0
    rig.sim.control(models=["sim"])
    rig.assert_all_answered(job, 3000)


def test_a_proxys_502_page_fails_no_line(rig: Rig) -> None:
    job = rig.job_of(["question"] * 3000)
    eventually(lambda: rig.done(job) > 100, 20, "progress")
    rig.sim.control(status=502)
    eventually(lambda: rig.reason(job) == "engine_down", 20, "the reason")
    time.sleep(30)
    assert rig.serve.job(job)["failed_requests"] == 0
    rig.sim.control(status=0)
    rig.assert_all_answered(job, 3000)


def test_500_to_everybody_for_a_while_fails_no_line(rig: Rig) -> None:
    job = rig.job_of(["question"] * 3000)
    eventually(lambda: rig.done(job) > 100, 20, "progress")
    rig.sim.control(status=500)
    eventually(lambda: rig.reason(job) == "retrying", 20, "the reason")
    asked = rig.sim.calls()["total"]
    time.sleep(10)
    assert rig.sim.calls()["total"] - asked < 40
    assert rig.serve.job(job)["failed_requests"] == 0
    rig.sim.control(status=0)
    rig.assert_all_answered(job, 3000)


@pytest.mark.parametrize("status", [429, 503])
def test_an_overloaded_engine_fails_no_line_and_is_not_hammered(rig: Rig, status: int) -> None:
    job = rig.job_of(["question"] * 2000)
    eventually(lambda: rig.done(job) > 100, 20, "progress")
    rig.sim.control(status=status)
    eventually(lambda: rig.reason(job) in {"rate_limited", "retrying"}, 20, "the reason")
    asked = rig.sim.calls()["total"]
    time.sleep(6)
    assert rig.sim.calls()["total"] - asked < 100
    rig.sim.control(status=0)
    rig.assert_all_answered(job, 2000)


def test_an_engine_that_goes_away_and_comes_back_fails_no_line(rig: Rig) -> None:
    job = rig.job_of(["question"] * 3000)
    eventually(lambda: rig.done(job) > 100, 20, "progress")
    port = int(rig.sim.url.split(":")[2].split("/")[0])
    rig.sim.stop()
    eventually(lambda: rig.reason(job) == "engine_down", 30, "the reason")
    again = Sim("latency=20ms", port)
    try:
        rig.assert_all_answered(job, 3000)
    finally:
        again.stop()


def test_a_line_that_crashes_the_engine_each_time_fails_alone(rig: Rig) -> None:
    texts = ["question"] * 200
    texts[77] = "!fault:crash"
    job = rig.job_of(texts)
    rig.assert_only_failed(job, 200, {77: "connection_lost"}, 120)
    eventually(rig.sim.answers, 10, "the crashed engine to listen again")
    assert rig.sim.calls()["by_id"]["line-77"] <= 6


def test_a_line_that_always_meets_a_proxys_timeout_fails_alone(rig: Rig) -> None:
    texts = ["question"] * 200
    texts[7], texts[8] = "!fault:504", "!fault:502*2"
    job = rig.job_of(texts)
    failed = rig.assert_only_failed(job, 200, {7: "gateway_timeout"}, 90)
    assert "HTTP 504" in failed["line-7"]["error"]["message"]
    assert rig.sim.calls()["by_id"]["line-7"] <= 20


def test_answers_that_are_no_json_or_cut_fail_their_own_lines_only(rig: Rig) -> None:
    texts = ["question"] * 60
    texts[3], texts[30], texts[31] = "!fault:notjson", "!fault:cut", "!fault:notjson*1"
    job = rig.job_of(texts)
    rig.assert_only_failed(job, 60, {3: "not_json", 30: "connection_lost"}, 120)


def test_an_engine_that_never_answers_one_line_times_out_that_line(rig: Rig) -> None:
    texts = ["question"] * 60
    texts[5] = "!fault:hang"
    job = rig.job_of(texts)
    rig.assert_only_failed(job, 60, {5: "request_timeout"}, 60)
    assert rig.sim.calls()["by_id"]["line-5"] == 3


def test_refused_lines_fail_with_the_engines_own_words(rig: Rig) -> None:
    texts = ["question"] * 40
    texts[1], texts[2], texts[3] = "!status:400", "!status:422", "!status:413"
    job = rig.job_of(texts)
    ended = rig.serve.wait_ended(job, 60)
    assert (ended["succeeded_requests"], ended["failed_requests"]) == (37, 3)
    failed = rig.serve.lines_of(ended["error_file"])
    assert [line["response"]["status_code"] for line in failed] == [400, 422, 413]
    assert all(line["error"]["message"] for line in failed)
    assert rig.sim.calls()["total"] == 40


def test_a_500_is_tried_again_and_believed_when_it_repeats(rig: Rig) -> None:
    texts = ["question"] * 200
    texts[1], texts[2] = "!fault:500*1", "!fault:500"
    job = rig.job_of(texts)
    rig.assert_only_failed(job, 200, {2: "engine_error"}, 60)
    assert 2 <= rig.sim.calls()["by_id"]["line-2"] <= 5


def test_large_answers_are_kept_whole_and_those_over_the_limit_fail(rig: Rig) -> None:
    texts = ["question"] * 12
    texts[4], texts[5] = "!fault:big=1000000", "!fault:big=100000000"
    job = rig.job_of(texts)
    rig.assert_only_failed(job, 12, {5: "reply_too_large"}, 90)
    ended = rig.serve.job(job)
    big = rig.serve.lines_of(ended["output_file"])[4]
    assert len(json.dumps(big)) >= 1_000_000


def assert_kept_and_named(rig: Rig, job: dict, count: int, code: str) -> None:
    """Every line stands once in one of the files; those without an answer say why."""
    out, err = (rig.serve.lines_of(job[name]) for name in ("output_file", "error_file"))
    assert len(out) == job["succeeded_requests"] > 0
    assert len(err) == job["failed_requests"] > 0
    ids = sorted(int(line["custom_id"].removeprefix("line-")) for line in out + err)
    assert ids == list(range(count))
    assert {line["error"]["code"] for line in err} == {code}


def test_a_cancelled_job_keeps_its_answers_and_names_the_rest(rig: Rig) -> None:
    job = rig.job_of(["question"] * 4000)
    eventually(lambda: rig.done(job) > 100, 20, "progress")
    answer = rig.serve.http.call("POST", f"/v1/batch/jobs/{job}/cancel")
    assert answer.json()["status"] in {"CANCELLATION_REQUESTED", "CANCELLED"}
    ended = rig.serve.wait_ended(job, 10)
    assert ended["status"] == "CANCELLED"
    assert_kept_and_named(rig, ended, 4000, "cancelled")


def test_a_job_expires_to_the_second_and_keeps_its_answers(rig: Rig) -> None:
    job = rig.job_of(["question"] * 4000)
    deadline = time.time() + 3
    ledger = sqlite3.connect(next(rig.serve.data.glob("*.sqlite")), timeout=10)
    with ledger:
        ledger.execute("UPDATE job SET deadline = ? WHERE id = ?", (deadline, job))
    ledger.close()
    ended = rig.serve.wait_ended(job, 20)
    assert ended["status"] == "TIMEOUT_EXCEEDED"
    assert 0 <= ended["completed_at"] - int(deadline) <= 3
    assert_kept_and_named(rig, ended, 4000, "timeout_exceeded")
