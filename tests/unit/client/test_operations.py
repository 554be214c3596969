"""What a client asks for, and what it makes of answers, broken ones too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batchmill.client import jobs, reading, submitting
from batchmill.client.asking import ask, ask_json
from batchmill.client.errors import (
    Conflict,
    NotBatchmill,
    NotFound,
    StillRunning,
    Unauthorized,
    Unreachable,
    Unreadable,
)
from batchmill.client.steps import Lost, Reply, Request
from batchmill.client.submitting import Order
from tests.unit.client.play import CUT, SILENT, Play, reply

GET = Request("GET", "/v1/models")
ID = "4017dc9f-b629-42f4-9700-8c681b9e7f0f"
CHILD = "5017dc9f-b629-42f4-9700-8c681b9e7f0f"


def job(status: str = "RUNNING", id: str = ID, **fields: Any) -> dict[str, Any]:
    return {
        "id": id,
        "status": status,
        "endpoint": "/v1/chat/completions",
        "created_at": 1,
        "total_requests": 2,
        "succeeded_requests": 0,
        "failed_requests": 0,
        **fields,
    }


def line(custom_id: str | None, *, ok: bool = True, **fields: Any) -> bytes:
    response = {"status_code": 200 if ok else 400, "body": {}}
    error = None if ok else {"code": "bad", "message": "no"}
    shown = {**fields, "custom_id": custom_id, "response": response, "error": error}
    return json.dumps(shown).encode() + b"\n"


def in_turn(*answers: Any) -> Iterator[Any]:
    return iter(answers)


def test_a_server_that_is_away_or_busy_is_asked_again() -> None:
    answers = in_turn(CUT, reply({}, 503, **{"retry-after": "7"}), reply({"x": 1}))
    play = Play(lambda _: next(answers))
    assert play.run(ask_json(GET)) == {"x": 1}
    assert play.now == 0.25 + 7


def test_a_server_that_was_never_heard_is_given_up_soon() -> None:
    play = Play(lambda _: Lost("nothing answers", is_known=False))
    with pytest.raises(Unreachable, match="nothing answers"):
        play.run(ask(GET))
    assert len(play.asked) == 2


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (reply({"message": "No such.", "code": "x"}, 404), NotFound, "No such."),
        (reply({"message": "A key."}, 401), Unauthorized, "BATCHMILL_API_KEY"),
        (Reply(404, b"<html>", {}), Unreachable, "not Batchmill"),
        (Reply(302, b"", {}), Unreachable, "leads elsewhere"),
        (Reply(200, b"<html>", {}), Unreachable, "no JSON"),
    ],
)
def test_a_refusal_is_told_and_what_is_not_ours_is_named(
    answer: Reply, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        Play(lambda _: answer).run(ask_json(GET))


def test_a_create_whose_answer_is_lost_is_sent_again_under_the_same_key() -> None:
    def server(request: Request) -> Any:
        if request.path == "/v1/files":
            return reply({"id": "f", "filename": "n", "purpose": "p", "bytes": 1, "created_at": 1})
        return CUT if len(play.asked) == 2 else reply(job())

    play = Play(server)
    made = play.run(submitting.submit([{"messages": []}], Order(key="k", model="m")))
    assert made.id == ID
    first, again = play.asked[1:]
    assert first.body == again.body
    assert first.headers == again.headers == {"idempotency-key": "k"}


@pytest.mark.parametrize(
    ("lines", "cards", "says"),
    [
        ([{"model": "a"}, {"model": "b"}], ["c"], "several models"),
        ([{"messages": []}], ["c", "d"], "say which one"),
        ([{"messages": []}], [], "served here: none"),
    ],
)
def test_a_model_is_never_guessed(lines: Any, cards: list[str], says: str) -> None:
    models = [{"id": card, "served_as": card} for card in cards]
    with pytest.raises(Unreadable, match=says):
        Play(lambda _: reply({"data": models})).run(submitting.submit(lines, Order(key="k")))


def test_lines_of_openais_kind_become_a_batch(tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    body = {"model": "m", "input": "x"}
    text = {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": body}
    file.write_text("\n" + json.dumps(text) + "\n")

    def server(request: Request) -> Any:
        match request.path:
            case "/v1/files":
                assert request.upload is not None
                assert request.upload.name == "in.jsonl"
                return reply(
                    {"id": "f", "filename": "n", "purpose": "p", "bytes": 1, "created_at": 1}
                )
            case "/v1/batches":
                assert request.body["endpoint"] == "/v1/embeddings"
                return reply({"id": "batch_1"})
        assert request.path.endswith("batch_1")
        return reply(job())

    assert Play(server).run(submitting.submit(file, Order(key="k"))).id == ID


def test_a_retry_whose_answer_is_lost_is_found_again() -> None:
    def server(request: Request) -> Any:
        if request.method == "POST":
            return CUT
        if request.path.endswith(CHILD):
            return reply(job(id=CHILD))
        made = any(each.method == "POST" for each in play.asked)
        return reply(job("SUCCESS", retried_by=CHILD if made else None))

    play = Play(server)
    assert play.run(jobs.retry(ID)).id == CHILD
    assert [each.method for each in play.asked].count("POST") == 1


def test_a_retry_that_is_refused_says_so() -> None:
    refused = reply({"message": "It runs."}, 409)
    play = Play(lambda request: refused if request.method == "POST" else reply(job()))
    with pytest.raises(Conflict, match="It runs"):
        play.run(jobs.retry(ID))


def test_waiting_outlasts_a_server_that_is_away() -> None:
    answers = in_turn(*[CUT] * 20, reply(job("SUCCESS")))
    gaps: list[str] = []
    known = jobs.objects.job(job())
    ended = Play(lambda _: next(answers)).run(jobs.wait(known, on_gap=gaps.append))
    assert ended.state == "completed"
    assert gaps == ["cut"] * 3


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("was_seen", [True, False])
def test_waiting_outlasts_a_server_in_trouble(status: int, was_seen: bool) -> None:
    answers = in_turn(*[reply({"message": "No storage."}, status)] * 20, reply(job("SUCCESS")))
    gaps: list[str] = []
    waits = jobs.objects.job(job()) if was_seen else ID
    ended = Play(lambda _: next(answers)).run(jobs.wait(waits, on_gap=gaps.append))
    assert ended.state == "completed"
    assert set(gaps) == {"No storage."}


def test_waiting_for_a_job_that_is_not_there_is_refused_at_once() -> None:
    play = Play(lambda _: reply({"message": "No such job."}, 404))
    with pytest.raises(NotFound):
        play.run(jobs.wait(ID, timeout=10))
    assert len(play.asked) == 1


def test_waiting_keeps_to_its_time_where_the_server_says_nothing() -> None:
    play = Play(lambda _: SILENT)
    with pytest.raises(StillRunning):
        play.run(jobs.wait(jobs.objects.job(job()), timeout=10))
    assert 10 <= play.now < 12
    with pytest.raises(Unreachable):
        play.run(jobs.wait(ID, timeout=10))
    assert 20 <= play.now < 23


def test_waiting_ends_with_its_time_and_the_job_goes_on() -> None:
    play = Play(lambda _: reply(job()))
    with pytest.raises(StillRunning, match=f"client.get\\('{ID}'\\)"):
        play.run(jobs.wait(ID, timeout=10))
    assert 10 <= play.now < 12


def test_results_go_on_behind_the_last_whole_line() -> None:
    whole = [line(str(n), cursor=f"c{n}") for n in range(4)]

    def server(request: Request) -> Any:
        after = request.query.get("after")
        at = 0 if after is None else int(after[1:]) + 1
        data = b"".join(whole[at:])
        return [data[:200], CUT] if at < 3 else [data]

    play = Play(server)
    play.run(reading.as_completed(ID))
    assert [each.custom_id for each in play.given] == ["0", "1", "2", "3"]


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_following_ends_only_when_nothing_follows_the_end_of_the_job(at_once: int) -> None:
    """What stands between ends each stream after so many lines, as if it were whole."""
    whole = [line(str(n), cursor=f"c{n}") for n in range(5)]

    def server(request: Request) -> Any:
        if not request.path.endswith("/results"):
            return reply(job("SUCCESS"))
        after = request.query.get("after")
        at = 0 if after is None else int(after[1:]) + 1
        return [b"".join(whole[at : at + at_once])]

    play = Play(server)
    play.run(reading.as_completed(ID, follow=True))
    assert [each.custom_id for each in play.given] == ["0", "1", "2", "3", "4"]


def test_following_outlasts_a_server_in_trouble() -> None:
    trouble = reply({"message": "No storage."}, 503)
    answers = in_turn(*[trouble] * 30, [line("0", cursor="c0")], reply(job("SUCCESS")), [b""])
    play = Play(lambda _: next(answers))
    play.run(reading.as_completed(ID, follow=True))
    assert [each.custom_id for each in play.given] == ["0"]


def test_following_a_job_that_is_not_there_is_refused_at_once() -> None:
    play = Play(lambda _: reply({"message": "No such job."}, 404))
    with pytest.raises(NotFound):
        play.run(reading.as_completed(ID, follow=True))
    assert len(play.asked) == 1


@pytest.mark.parametrize("status", [429, 502, 503])
def test_what_stands_before_a_server_that_is_away_is_outlasted(status: int) -> None:
    page = Reply(status, b"<html>Come again.</html>", {})
    answers = in_turn(*[page] * 20, [line("0", cursor="c0")], reply(job("SUCCESS")), [b""])
    play = Play(lambda _: next(answers))
    play.run(reading.as_completed(ID, follow=True))
    assert [each.custom_id for each in play.given] == ["0"]
    answers = in_turn(*[page] * 20, reply(job("SUCCESS")))
    assert play.run(jobs.wait(jobs.objects.job(job()))).is_ended


@pytest.mark.parametrize("status", [200, 302, 403, 404])
def test_what_is_not_ours_is_not_waited_for(status: int) -> None:
    play = Play(lambda _: Reply(status, b"<html>Sign in.</html>", {}))
    with pytest.raises(NotBatchmill):
        play.run(jobs.wait(jobs.objects.job(job())))
    if status > 200:
        with pytest.raises(NotBatchmill):
            play.run(reading.as_completed(ID, follow=True))


def test_following_ends_at_a_result_that_cannot_be_read() -> None:
    play = Play(lambda _: [line("0", cursor="c0") + b"<html>\n"])
    with pytest.raises(NotBatchmill, match="cannot be read"):
        play.run(reading.as_completed(ID, follow=True))
    assert len(play.asked) == 1


ENDED = job("SUCCESS", output_file="out", error_file="err", input_files=["in"])


def merged(given: bytes, out: bytes, err: bytes) -> list[tuple[str | None, bool]]:
    def server(request: Request) -> Any:
        if "/content" in request.path:
            return [{"in": given, "out": out, "err": err}[request.path.split("/")[3]]]
        return reply(ENDED if "/batch/" in request.path else {})

    play = Play(server)
    play.run(reading.in_input_order(ID))
    return [(each.custom_id, each.ok) for each in play.given]


def test_answered_and_failed_lines_come_in_input_order() -> None:
    given = (
        b'\xef\xbb\xbf{"custom_id":"a"}\n\n{"custom_id":"b"}\n{nonsense\n{"custom_id":"\\u00e9"}'
    )
    failed = line("b", ok=False) + line(None, ok=False)
    order = [("a", True), ("b", False), (None, False), ("\u00e9", True)]
    assert merged(given, line("a") + line("\u00e9"), failed) == order


TWICE = b'{"custom_id":"z","custom_id":"b"}\n{"custom_id":"b"}\n'


def test_a_line_with_two_custom_ids_does_not_take_a_later_lines_answer() -> None:
    order = [(None, False), ("b", True)]
    assert merged(TWICE, line("b"), line(None, ok=False)) == order
    hidden = TWICE.replace(b"custom_id", b"custom\\u005fid", 1)
    assert merged(hidden, line("b"), line(None, ok=False)) == order


def test_numbered_results_are_merged_by_their_number() -> None:
    def numbered(number: int, custom_id: str | None, *, ok: bool = True) -> bytes:
        read = json.loads(line(custom_id, ok=ok))
        return json.dumps({**read, "id": f"batch-01234567-{number}-a-b"}).encode() + b"\n"

    out = numbered(2, "b") + numbered(10, "c")
    err = numbered(1, "b", ok=False) + numbered(9, None, ok=False) + numbered(11, None, ok=False)
    order = [("b", False), ("b", True), (None, False), ("c", True), (None, False)]
    assert merged(b"", out, err) == order


def test_files_that_do_not_belong_together_are_not_joined() -> None:
    with pytest.raises(Unreadable, match="do not belong"):
        merged(b'{"custom_id":"x"}\n{"custom_id":"y"}\n', line("a"), line("b", ok=False))


@pytest.mark.parametrize("body", [{}, {"data": None}, {"data": [1]}, {"data": {"a": 1}}])
@pytest.mark.parametrize("steps", [lambda: jobs.listing(5), lambda: jobs.files(5), jobs.models])
def test_lists_of_another_shape_are_not_ours(body: Any, steps: Any) -> None:
    with pytest.raises(Unreachable, match="not Batchmill"):
        Play(lambda _: reply(body)).run(steps())


@pytest.mark.parametrize("body", [b"\xff", b'{"message":"\xff"}', b"[" * 5000, b"null", b""])
def test_an_error_that_cannot_be_read_is_not_ours(body: bytes) -> None:
    with pytest.raises(Unreachable, match="not Batchmill"):
        Play(lambda _: Reply(400, body, {})).run(jobs.get(ID))
