"""A delete whose answer was lost is done; one of what never was is refused."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from batchmill.client import jobs
from batchmill.client.address import address
from batchmill.client.connection import lost
from batchmill.client.errors import NotBatchmill, NotFound, Unreachable
from batchmill.client.steps import Lost, Reply
from tests.unit.client.play import CUT, Play, reply

AWAY = reply({"message": "No such."}, 404)
GATEWAY = Reply(502, b"<html>Bad gateway</html>", {})
UNSENT = Lost("nothing answers", was_sent=False)
BUSY = reply({"message": "Nothing was changed."}, 503)
DELETES = pytest.mark.parametrize("delete", [jobs.delete, jobs.delete_file])


def played(*answers: Any) -> Play:
    left = iter(answers)
    return Play(lambda _: next(left))


@DELETES
@pytest.mark.parametrize("before", [[CUT], [GATEWAY], [CUT, CUT], [CUT, UNSENT], [BUSY, CUT, BUSY]])
def test_what_is_not_there_after_a_lost_answer_was_deleted(delete: Any, before: list[Any]) -> None:
    play = played(*before, AWAY)
    play.run(delete("x"))
    assert len(play.asked) == len(before) + 1


@DELETES
@pytest.mark.parametrize("before", [[], [UNSENT], [BUSY], [BUSY, UNSENT]])
def test_what_was_not_there_at_the_first_answer_is_refused(delete: Any, before: list[Any]) -> None:
    with pytest.raises(NotFound, match="No such"):
        played(*before, AWAY).run(delete("x"))


@DELETES
def test_a_delete_that_is_never_answered_is_not_taken_for_done(delete: Any) -> None:
    with pytest.raises(Unreachable, match="cut"):
        Play(lambda _: CUT).run(delete("x"))
    with pytest.raises(NotBatchmill):
        played(CUT, Reply(404, b"<html>", {})).run(delete("x"))


def test_a_job_that_is_looked_at_after_a_lost_answer_must_be_there() -> None:
    with pytest.raises(NotFound):
        played(CUT, AWAY).run(jobs.get("x"))


@pytest.mark.parametrize(
    ("error", "was_sent"),
    [
        (httpx2.ConnectError("refused"), False),
        (httpx2.ConnectTimeout("late"), False),
        (httpx2.PoolTimeout("late"), False),
        (httpx2.ReadTimeout("late"), True),
        (httpx2.ReadError("cut"), True),
        (httpx2.RemoteProtocolError("cut"), True),
    ],
)
def test_a_request_that_reached_nobody_did_nothing(error: Exception, *, was_sent: bool) -> None:
    found = lost(error, address("http://127.0.0.1:1", environ={}), is_known=True)
    assert found.was_sent is was_sent
