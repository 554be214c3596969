"""A download that broke, behind a server or proxy that ignores `Range`, over real connections."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from batchmill.client import AsyncClient, Client

DATA = b"".join(b'{"n": %d}\n' % n for n in range(50_000))
BROKEN_AT = 300_001


@dataclass
class Place:
    """A server of one file, whose first answer breaks off."""

    knows_ranges: bool
    lies: int = 0
    """So many parts begin elsewhere."""
    asked: list[str | None] = field(default_factory=list)
    url: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers.get("range")
        self.asked.append(asked)
        start = int(asked[6:-1]) if asked and self.knows_ranges else 0
        if start and self.lies:
            self.lies -= 1
            start -= 1
        handler.send_response(206 if asked and self.knows_ranges else 200)
        handler.send_header("content-length", str(len(DATA) - start))
        handler.send_header("content-range", f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")
        handler.end_headers()
        handler.wfile.write(DATA[start:] if len(self.asked) > 1 else DATA[:BROKEN_AT])


@contextmanager
def serving_file(place: Place) -> Iterator[Place]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            place.answer(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        place.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield place
        finally:
            server.shutdown()
            thread.join()


def lines_of(url: str) -> list[bytes]:
    with Client(url) as client:
        return list(client.download("f"))


async def awaited_lines_of(url: str) -> list[bytes]:
    async with AsyncClient(url) as client:
        return [line async for line in client.download("f")]


@pytest.fixture(
    params=[Place(knows_ranges=False), Place(knows_ranges=True), Place(knows_ranges=True, lies=1)],
    ids=["ignores", "knows", "lies"],
)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with serving_file(Place(request.param.knows_ranges, request.param.lies)) as served:
        yield served


def test_every_line_comes_once(place: Place) -> None:
    lies = place.lies
    assert lines_of(place.url) == DATA.splitlines()
    assert_asked(place, 2 + lies)


async def test_every_line_comes_once_to_who_awaits_it(place: Place) -> None:
    lies = place.lies
    assert await awaited_lines_of(place.url) == DATA.splitlines()
    assert_asked(place, 2 + lies)


def assert_asked(place: Place, times: int) -> None:
    first, *later = place.asked
    assert first is None
    assert len(later) == times - 1
    assert all(re.fullmatch(r"bytes=[1-9][0-9]*-", each or "") for each in later)
