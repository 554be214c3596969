"""A key that stands for a job already: the job is found by its bytes, or the call is refused; what
was uploaded for it is deleted either way."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import pytest

from batchmill.client import submitting
from batchmill.client.errors import Conflict
from batchmill.client.steps import Reply, Request
from batchmill.client.submitting import Order
from tests.unit.client.play import Play, reply

DAY = 24 * 3600
LINES = b'{"custom_id": "a", "body": {}}\n'
OPENAI = b'{"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"model": "m"}}\n'
REUSED = reply({"message": "Used.", "code": "idempotency_key_reused"}, 409)


ORDER = Order(key="k", model="m")
OPENAI_ORDER = Order(key="k")


@dataclass
class Server:
    """Files and creates, as the server has them."""

    now: int = 10 * DAY
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    made: dict[tuple[str, str], tuple[Any, str]] = field(default_factory=dict)
    uploads: int = 0
    page: int = 2

    def __call__(self, request: Request) -> Any:
        match request.method, request.path.split("/")[2:]:
            case "POST", ["files"]:
                return self._upload(request)
            case "GET", ["files"]:
                return self._list(request.query)
            case "DELETE", ["files", id]:
                return reply({}) if self.files.pop(id, None) else reply({"message": "No."}, 404)
            case "POST", _:
                return self._create(request)
        return reply(job(request.path.rpartition("/")[2]))

    def add(self, data: bytes) -> str:
        self.uploads += 1
        name = f"f{self.uploads}"
        facts = {"id": name, "filename": "n", "purpose": "batch", "bytes": 1}
        signature = hashlib.sha256(data).hexdigest()
        self.files[name] = {**facts, "created_at": self.now, "signature": signature}
        self.now += 1
        return name

    def _upload(self, request: Request) -> Reply:
        assert request.upload is not None
        request.upload.content.seek(0)
        return reply(self.files[self.add(request.upload.content.read())])

    def _list(self, query: Any) -> Reply:
        assert query["purpose"] == "batch"
        ids = list(self.files)[::-1]
        ids = ids[ids.index(query["after"]) + 1 :] if "after" in query else ids
        data = [self.files[each] for each in ids[: self.page]]
        last = data[-1]["id"] if data else None
        return reply({"data": data, "has_more": len(ids) > self.page, "last_id": last})

    def _create(self, request: Request) -> Reply:
        route = (request.path, request.headers["idempotency-key"])
        body, made = self.made.setdefault(route, (request.body, f"job{len(self.made)}"))
        return reply(job(made)) if body == request.body else REUSED

    def submit(self, data: bytes = LINES, order: Order = ORDER) -> str:
        return str(Play(self).run(submitting.submit(data, order)).id)


def job(id: str) -> dict[str, Any]:
    counts = ("created_at", "total_requests", "succeeded_requests", "failed_requests")
    shown = dict.fromkeys(counts, 1)
    return {"id": id, "status": "QUEUED", "endpoint": "/v1/embeddings", **shown}


@pytest.mark.parametrize(("data", "order"), [(LINES, ORDER), (OPENAI, OPENAI_ORDER)])
def test_the_same_call_gives_the_same_job_and_leaves_one_upload(data: bytes, order: Order) -> None:
    server = Server()
    server.add(data)
    first = server.submit(data, order)
    for other in (data, b"other", b"other", data):
        server.add(other)
    files = set(server.files)
    assert server.submit(data, order) == first
    assert set(server.files) == files
    assert len(server.made) == 1


def test_the_job_is_found_also_where_its_upload_came_after_ours() -> None:
    """Two processes at once: the one that uploads last makes the job first."""
    server = Server()

    def overtaken(request: Request) -> Any:
        if request.body is not None and not server.made:
            server.made[request.path, "k"] = ({**request.body, "input_files": [late()]}, "theirs")
        return server(request)

    def late() -> str:
        return server.add(LINES)

    assert Play(overtaken).run(submitting.submit(LINES, ORDER)).id == "theirs"
    assert list(server.files) == ["f2"]


@pytest.mark.parametrize(
    ("data", "order"),
    [(LINES.replace(b"a", b"b"), ORDER), (LINES, Order(key="k", model="m", metadata={"a": "b"}))],
)
def test_a_key_of_another_job_is_refused_and_nothing_is_left(data: bytes, order: Order) -> None:
    server = Server()
    server.submit()
    files = set(server.files)
    with pytest.raises(Conflict, match="Take a new key") as refused:
        server.submit(data, order)
    assert (refused.value.status, refused.value.code) == (409, "idempotency_key_reused")
    assert set(server.files) == files
    assert len(server.made) == 1


def test_a_job_whose_upload_was_deleted_is_not_found_and_no_second_one_made() -> None:
    server = Server()
    server.submit()
    server.files.clear()
    with pytest.raises(Conflict, match="an upload that was deleted"):
        server.submit()
    assert not server.files
    assert len(server.made) == 1


def test_files_of_earlier_days_are_not_looked_through() -> None:
    server = Server()
    for _ in range(20):
        server.add(b"old")
    server.now += 2 * DAY
    server.submit()
    play = Play(server)
    play.run(submitting.submit(LINES, ORDER))
    assert [each.path for each in play.asked if each.method == "GET"] == ["/v1/files"]


def test_an_upload_that_cannot_be_deleted_keeps_nobody_from_the_job() -> None:
    server = Server()
    first = server.submit()
    refused = reply({"message": "It is needed."}, 409)
    play = Play(lambda each: refused if each.method == "DELETE" else server(each))
    assert play.run(submitting.submit(LINES, ORDER)).id == first


def test_a_conflict_of_another_kind_is_told_as_it_is() -> None:
    server = Server()
    other = reply({"message": "It is paused.", "code": "other"}, 409)
    play = Play(lambda each: other if each.body is not None else server(each))
    with pytest.raises(Conflict, match="It is paused"):
        play.run(submitting.submit(LINES, ORDER))
    assert len(server.files) == 1


def test_a_key_of_another_file_is_refused_as_it_is() -> None:
    answers = iter([[LINES], REUSED])
    play = Play(lambda _: next(answers))
    with pytest.raises(Conflict, match="Used"):
        play.run(submitting.submit("file-" + "0" * 32, ORDER))
    assert len(play.asked) == 2
