"""Retrying a job: only what is chosen is sent again, and the child's files hold every line once."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.serving import Serve, Sim, as_openai, chat_lines, eventually, serving, simulating

JOBS = "/v1/batch/jobs"
LINES = 2_500


@pytest.fixture(scope="module")
def sim() -> Iterator[Sim]:
    with simulating() as running:
        yield running


@pytest.fixture(scope="module")
def serve(sim: Sim, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    folder = tmp_path_factory.mktemp("retry")
    config = folder / "batchmill.toml"
    config.write_text(f'[[engines]]\nname = "sim"\nurl = "{sim.url}"\n')
    with serving(folder / "data", "--config", str(config)) as running:
        yield running


def post(serve: Serve, job: str, route: str = "retry", body: Any = None) -> Any:
    return serve.http.call("POST", f"{JOBS}/{job}/{route}", body)


def retry(serve: Serve, job: str, body: Any = None) -> dict[str, Any]:
    answer = post(serve, job, body=body)
    assert answer.status == 200, answer
    return dict(answer.json())


def failing_lines(count: int, fails: int, *, text: str = "!status:422") -> bytes:
    """Every `fails`th line is refused by the engine for as long as it takes faults."""
    return b"".join(
        json.dumps(
            {
                "custom_id": f"line-{n}",
                "body": {
                    "messages": [
                        {"role": "user", "content": f"q{n} {text if n % fails == 0 else ''}"}
                    ]
                },
            }
        ).encode()
        + b"\n"
        for n in range(count)
    )


def ran(serve: Serve, data: bytes, **fields: Any) -> dict[str, Any]:
    job = serve.create(input_files=[serve.upload(data)], **fields)
    return serve.wait_ended(job["id"])


def ids(lines: list[dict[str, Any]]) -> list[str]:
    return [line["custom_id"] for line in lines]


def in_order(lines: list[dict[str, Any]]) -> bool:
    numbers = [int(line["custom_id"].split("-")[1]) for line in lines]
    return numbers == sorted(numbers)


def assert_whole(serve: Serve, job: dict[str, Any], total: int) -> None:
    """Every custom_id once, each side in input order, the counters saying the same."""
    out, err = serve.lines_of(job["output_file"]), serve.lines_of(job["error_file"])
    assert (len(out), len(err)) == (job["succeeded_requests"], job["failed_requests"])
    assert sorted(ids(out + err)) == sorted(f"line-{n}" for n in range(total))
    assert in_order(out)
    assert in_order(err)
    assert sum(each["count"] for each in job["error_summary"]) == len(err)


def results_of(serve: Serve, job: str) -> list[dict[str, Any]]:
    answer = serve.http.call("GET", f"{JOBS}/{job}/results")
    assert answer.status == 200
    return [json.loads(line) for line in answer.body.splitlines()]


def test_only_the_failed_tenth_is_sent_again_and_the_files_merge(serve: Serve, sim: Sim) -> None:
    """The simulator refuses a tenth of all calls with 400, by chance, and then none."""
    sim.control(rate_400=0.1)
    parent = ran(serve, chat_lines(LINES))
    failed = ids(serve.lines_of(parent["error_file"]))
    assert LINES * 0.07 < len(failed) < LINES * 0.13
    before = sim.calls()["total"]
    files = [serve.http.call("GET", f"/v1/files/{parent[f]}/content").body
             for f in ("output_file", "error_file")]  # fmt: skip
    sim.control(rate_400=0.0)
    child = retry(serve, parent["id"], {"only": "failed"})
    assert child["retry_of"] == parent["id"]
    assert child["total_requests"] == LINES
    ended = serve.wait_ended(child["id"])
    assert sim.calls()["total"] - before == len(failed)
    assert (ended["status"], ended["succeeded_requests"]) == ("SUCCESS", LINES)
    assert ended["error_file"] is None
    assert ended["error_summary"] == []
    out = serve.lines_of(ended["output_file"])
    assert ids(out) == [f"line-{n}" for n in range(LINES)]
    for n, line in enumerate(out):
        assert f"id:line-{n}" in line["response"]["body"]["choices"][0]["message"]["content"]
    found = results_of(serve, child["id"])
    assert sorted(ids(found)) == sorted(f"line-{n}" for n in range(LINES))
    again = serve.job(parent["id"])
    assert again["retried_by"] == child["id"]
    assert {**again, "retried_by": None} == {**parent, "retried_by": None}
    assert files == [serve.http.call("GET", f"/v1/files/{parent[f]}/content").body
                     for f in ("output_file", "error_file")]  # fmt: skip


def test_a_batch_is_retried_and_read_in_openais_forms(serve: Serve, sim: Sim) -> None:
    asked = {
        "input_file_id": serve.upload(as_openai(failing_lines(40, 10, text="!status:400"))),
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
    }
    batch = serve.http.call("POST", "/v1/batches", asked).json()
    serve.wait_ended(batch["id"])
    before = sim.calls()["total"]
    child = serve.http.call("POST", f"/v1/batches/{batch['id']}/retry").json()
    assert child["id"].startswith("batch_")
    assert child["retry_of"] == batch["id"]
    serve.wait_ended(child["id"])
    assert sim.calls()["total"] - before == 4
    ended = serve.http.call("GET", f"/v1/batches/{child['id']}").json()
    assert ended["request_counts"] == {"total": 40, "completed": 36, "failed": 4}
    assert ended["error_summary"][0]["count"] == 4
    out, err = serve.lines_of(ended["output_file_id"]), serve.lines_of(ended["error_file_id"])
    assert ids(out) == [f"line-{n}" for n in range(40) if n % 10]
    assert ids(err) == [f"line-{n}" for n in range(0, 40, 10)]
    assert {line["error"] for line in err} == {None}
    assert {line["response"]["status_code"] for line in err} == {400}
    results = serve.http.call("GET", f"/v1/batches/{child['id']}/results").body.splitlines()
    assert sorted(ids([json.loads(line) for line in results])) == sorted(ids(out + err))
    refused = serve.http.call("POST", f"/v1/batches/{child['id']}/pause")
    assert (refused.status, refused.headers["x-should-retry"]) == (409, "false")


def test_listed_lines_alone_are_sent_again(serve: Serve, sim: Sim) -> None:
    parent = ran(serve, failing_lines(2_100, 100))
    assert parent["failed_requests"] == 21
    before = sim.calls()["total"]
    child = retry(serve, parent["id"], {"custom_ids": ["line-300", "line-2000", "line-300"]})
    ended = serve.wait_ended(child["id"])
    assert sim.calls()["total"] - before == 2
    assert (ended["succeeded_requests"], ended["failed_requests"]) == (2_079, 21)
    assert_whole(serve, ended, 2_100)
    assert len(results_of(serve, child["id"])) == 2_100


def test_a_child_may_itself_be_retried(serve: Serve, sim: Sim) -> None:
    parent = ran(serve, failing_lines(1_500, 10, text="!fault:400*2"))
    assert parent["failed_requests"] == 150
    first = serve.wait_ended(retry(serve, parent["id"])["id"])
    assert (first["status"], first["failed_requests"]) == ("SUCCESS", 150)
    assert_whole(serve, first, 1_500)
    before = sim.calls()["total"]
    second = serve.wait_ended(retry(serve, first["id"], {})["id"])
    assert sim.calls()["total"] - before == 150
    assert second["failed_requests"] == 0
    assert second["retry_of"] == first["id"]
    assert_whole(serve, second, 1_500)
    assert ids(results_of(serve, second["id"])) != []
    assert sorted(ids(results_of(serve, second["id"]))) == sorted(f"line-{n}" for n in range(1_500))


def test_cancelled_and_failed_lines_are_told_apart(serve: Serve, sim: Sim) -> None:
    sim.control(latency=0.05)
    job = serve.create(input_files=[serve.upload(failing_lines(3_000, 5))])
    sim.control(latency=1.0)  # many are still to be sent when it is cancelled
    eventually(lambda: serve.job(job["id"])["failed_requests"] >= 20, 60, "some failures")
    assert post(serve, job["id"]).status == 409
    assert post(serve, job["id"], "cancel").status == 200
    parent = serve.wait_ended(job["id"])
    sim.control(latency=0.0)
    summary = {each["code"]: each["count"] for each in parent["error_summary"]}
    cancelled = summary["cancelled"]
    failed = parent["failed_requests"] - cancelled
    assert cancelled > 0
    assert failed >= 20
    assert post(serve, parent["id"], body={"only": "expired"}).status == 409
    before = sim.calls()["total"]
    child = serve.wait_ended(retry(serve, parent["id"], {"only": ["cancelled"]})["id"])
    assert sim.calls()["total"] - before == cancelled
    assert_whole(serve, child, 3_000)
    assert child["failed_requests"] == 600
    assert not any(each["code"] == "cancelled" for each in child["error_summary"])


def test_lines_that_validation_refused_are_kept_and_never_sent(serve: Serve, sim: Sim) -> None:
    rows = failing_lines(40, 10).splitlines(keepends=True)
    rows[5] = b'{"custom_id":"line-5","body":5}\n'
    rows[7] = rows[6]
    parent = ran(serve, b"".join(rows), on_invalid="quarantine")
    assert parent["failed_requests"] == 6
    before = sim.calls()["total"]
    child = serve.wait_ended(retry(serve, parent["id"])["id"])
    assert sim.calls()["total"] - before == 4
    assert child["failed_requests"] == 6
    errors = serve.lines_of(child["error_file"])
    kept = [line for line in serve.lines_of(parent["error_file"]) if line["response"] is None]
    assert [line for line in errors if line["response"] is None] == kept
    answer = post(serve, parent["id"], body={"custom_ids": ["line-5"]})
    assert (answer.status, answer.json()["param"]) == (400, "custom_ids.0")


def test_an_inline_job_is_retried_inline(serve: Serve) -> None:
    body = {"messages": [{"role": "user", "content": "inline !status:422*1"}]}
    job = serve.create(requests=[{"custom_id": "line-0", "body": body}])
    parent = serve.wait_ended(job["id"])
    assert parent["failed_requests"] == 1
    child = serve.wait_ended(retry(serve, parent["id"])["id"])
    assert [line["custom_id"] for line in child["outputs"]] == ["line-0"]


def test_a_paused_child_goes_on_when_it_is_resumed(serve: Serve, sim: Sim) -> None:
    parent = ran(serve, failing_lines(300, 1, text="!status:422*1"))
    sim.control(rate_503=1.0)  # it cannot end before it is paused
    child = retry(serve, parent["id"])["id"]
    while serve.job(child)["started_at"] is None:
        pass
    assert post(serve, child, "pause").status == 200
    assert post(serve, child, "resume").status == 200
    sim.control(rate_503=0.0)
    ended = serve.wait_ended(child)
    assert ended["succeeded_requests"] == 300
    assert_whole(serve, ended, 300)


@pytest.fixture(scope="module")
def parent(serve: Serve) -> dict[str, Any]:
    return ran(serve, failing_lines(20, 10))


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"only": "succeeded"}, "only"),
        ({"only": []}, "only"),
        ({"only": ["failed", 1]}, "only"),
        ({"only": {"failed": 1}}, "only"),
        ({"only": "invalid"}, "only"),
        ({"custom_ids": "line-0"}, "custom_ids"),
        ({"custom_ids": []}, "custom_ids"),
        ({"custom_ids": [1]}, "custom_ids"),
        ({"custom_ids": ["x"] * 10_001}, "custom_ids"),
        ({"custom_ids": ["line-0"], "only": "failed"}, "custom_ids"),
        ({"custom_ids": ["line-0", "\ud83d"]}, "custom_ids.1"),
        ([], None),
        (b"{", None),
        (b" ", None),
    ],
)
def test_a_choice_that_cannot_be_is_refused(
    serve: Serve, parent: dict[str, Any], body: Any, param: str | None
) -> None:
    answer = post(serve, parent["id"], body=body)
    assert answer.status in {400, 422}, answer
    assert answer.json()["param"] == param
    assert serve.job(parent["id"])["retried_by"] is None


@pytest.mark.parametrize("route", [JOBS, "/v1/batches"])
@pytest.mark.parametrize("fails", [10, 100])
@pytest.mark.parametrize("other", ["line-1", "nobody"])
def test_an_id_that_succeeded_or_does_not_exist_is_400_with_its_place(
    serve: Serve, route: str, fails: int, other: str
) -> None:
    """Also where no line of the job has failed."""
    parent = ran(serve, b"".join(failing_lines(20, fails).splitlines(keepends=True)[1:]))
    failed = ["line-10"] if fails == 10 else []
    answer = serve.http.call(
        "POST", f"{route}/{parent['id']}/retry", {"custom_ids": [*failed, other]}
    )
    told = (answer.status, answer.json()["param"], answer.json()["code"])
    assert told == (400, f"custom_ids.{len(failed)}", "invalid_value")
    assert serve.job(parent["id"])["retried_by"] is None


def test_a_job_is_refused_that_has_nothing_to_retry(serve: Serve) -> None:
    fine = ran(serve, chat_lines(3))
    refused = ran(serve, b'{"custom_id":1}\n')
    for job, body in ((fine, None), (refused, None), (refused, {"custom_ids": ["1"]})):
        answer = post(serve, job["id"], body=body)
        assert (answer.status, answer.headers["x-should-retry"]) == (409, "false")
    assert post(serve, "00000000-0000-0000-0000-000000000000").status == 404


def test_one_child_at_a_time(serve: Serve, sim: Sim) -> None:
    parent = ran(serve, failing_lines(10, 2))
    sim.control(rate_503=1.0)  # it cannot end before it is asked for a second
    child = retry(serve, parent["id"])["id"]
    assert post(serve, parent["id"]).status == 409
    file = serve.http.call("DELETE", f"/v1/files/{parent['error_file']}")
    assert (file.status, file.headers["x-should-retry"]) == (409, "false")
    sim.control(rate_503=0.0)
    serve.wait_ended(child)
    second = serve.wait_ended(retry(serve, parent["id"])["id"])
    assert_whole(serve, second, 10)
    assert serve.http.call("DELETE", f"/v1/files/{parent['error_file']}").status == 200
    assert post(serve, parent["id"]).status == 409
    assert_whole(serve, serve.job(second["id"]), 10)


def test_a_job_whose_input_is_gone_is_refused(serve: Serve) -> None:
    parent = ran(serve, failing_lines(10, 2))
    assert serve.http.call("DELETE", f"/v1/files/{parent['input_files'][0]}").status == 200
    assert post(serve, parent["id"]).status == 409


def test_a_follower_that_leaves_is_let_go(serve: Serve, sim: Sim) -> None:
    sim.control(latency=5.0)
    job = serve.create(input_files=[serve.upload(chat_lines(3))])["id"]
    for route in ("results?follow=true", "progress"):
        path = f"{JOBS}/{{job_id}}/{route.partition('?')[0]}"
        before = answered(serve, path)
        connection = http.client.HTTPConnection("127.0.0.1", serve.port, timeout=10)
        connection.request("GET", f"{JOBS}/{job}/{route}")
        assert connection.getresponse().status == 200
        assert answered(serve, path) == before
        connection.close()
        eventually(lambda path=path, n=before: answered(serve, path) == n + 1, 20, "its end")
    sim.control(latency=0.0)
    assert post(serve, job, "cancel").status == 200
    serve.wait_ended(job)


def answered(serve: Serve, route: str) -> float:
    """How many requests at that route have come to their end."""
    text = serve.http.call("GET", "/metrics").body.decode()
    counts = re.findall(
        rf'^batchmill_http_requests_total{{.*route="{re.escape(route)}".*}} (\S+)$',
        text,
        re.MULTILINE,
    )
    return sum(map(float, counts))
