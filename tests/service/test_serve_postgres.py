"""`batchmill serve` on PostgreSQL: an idle worker asks little, and an outage is told as one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres import Server, postgres_server
from tests.serving import Serve, eventually

__all__ = ["postgres_server"]

REQUESTS = [
    {"custom_id": f"{n}", "body": {"messages": [{"role": "user", "content": "hi"}]}}
    for n in range(20)
]


@pytest.fixture
def database(postgres_server: Server) -> Iterator[str]:
    with postgres_server.database(movable=False) as (name, _):
        yield name


@pytest.fixture
def serve(postgres_server: Server, database: str, tmp_path: Path) -> Iterator[Serve]:
    url = postgres_server.url(database)
    serve = Serve(tmp_path / "data", "--engine", "sim", BATCHMILL_DATABASE_URL=url).start()
    yield serve
    serve.kill()


def test_an_outage_is_told_accepts_nothing_by_halves_and_passes(
    postgres_server: Server, database: str, serve: Serve
) -> None:
    job = serve.create(requests=REQUESTS)
    ended = serve.wait_ended(job["id"])
    assert (ended["status"], ended["succeeded_requests"]) == ("SUCCESS", 20)
    assert _transactions_a_second(postgres_server, database) < 3
    assert list(serve.data.glob("*.sqlite*")) == []
    asked = {"endpoint": "/v1/chat/completions", "model": "sim", "requests": REQUESTS}
    postgres_server.stop()
    try:
        refused = serve.http.call("POST", "/v1/batch/jobs", asked, timeout=60)
    finally:
        postgres_server.start()
    assert (refused.status, refused.json()["code"]) == (503, "storage_unavailable")
    assert int(refused.headers["retry-after"]) > 0
    listed = serve.http.call("GET", "/v1/batch/jobs").json()
    assert [each["id"] for each in listed["data"]] == [job["id"]]
    assert serve.wait_ended(serve.create(requests=REQUESTS)["id"])["status"] == "SUCCESS"
    assert serve.stop() == 0
    assert postgres_server.password not in serve.log.read_text()


def _transactions_a_second(server: Server, database: str) -> float:
    """What an idle `serve` costs; PostgreSQL counts the transactions of each connection now and
    then, so that it is looked at for a while."""
    counted = f"SELECT xact_commit FROM pg_stat_database WHERE datname = '{database}'"
    eventually(lambda: server.sql(counted)[0][0] > 0, 10, "the first count")
    time.sleep(2.0)
    before, began = server.sql(counted)[0][0], time.monotonic()
    time.sleep(6.0)
    return (server.sql(counted)[0][0] - before) / (time.monotonic() - began)
