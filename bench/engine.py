"""An engine that answers after a fixed time and knows when it was first called.

    python -m bench.engine PORT DELAY_MS

`GET /stamp` gives the monotonic time of the first call since the last stamp, and how many came.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import uvloop

from bench.inputs import MODEL, answer
from bench.processes import free_port, listens, running, wait_until

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


def _reply(body: bytes) -> bytes:
    return _HEAD % len(body) + body


_ANSWER = _reply(answer())
_MODELS = _reply(json.dumps({"object": "list", "data": [{"id": MODEL}]}).encode())


class Calls:
    """When calls came."""

    def __init__(self) -> None:
        self.first: float | None = None
        self.count = 0

    def came(self) -> None:
        """One call is here."""
        self.count += 1
        if self.first is None:
            self.first = time.monotonic()

    def stamp(self) -> bytes:
        """What came since the last stamp, as JSON."""
        text = json.dumps({"first": self.first, "count": self.count})
        self.first, self.count = None, 0
        return text.encode()


class Connection(asyncio.Protocol):
    """One client's connection; answers its requests one after the other."""

    def __init__(self, calls: Calls, delay: float) -> None:
        self._calls, self._delay = calls, delay
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (head := self._buffer.find(b"\r\n\r\n")) >= 0:
            end = head + 4 + _content_length(self._buffer[:head])
            if len(self._buffer) < end:
                return
            method, path, _ = self._buffer.split(b" ", 2)
            self._buffer = self._buffer[end:]
            self._answer(method, path)

    def _answer(self, method: bytes, path: bytes) -> None:
        if method == b"POST":
            self._calls.came()
            asyncio.get_running_loop().call_later(self._delay, self._write, _ANSWER)
        else:
            self._write(_reply(self._calls.stamp()) if path == b"/stamp" else _MODELS)

    def _write(self, reply: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(reply)


def _content_length(head: bytes) -> int:
    lower = head.lower()
    at = lower.find(b"content-length:")
    return int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0


@contextmanager
def slow_engine(home: Path, delay_ms: int) -> Iterator[str]:
    """The origin of a running engine that takes that long for every answer."""
    port = free_port()
    command = [sys.executable, "-m", "bench.engine", str(port), str(delay_ms)]
    with running(command, home / "engine.out"):
        wait_until(lambda: listens(port), 10, "the start of the slow engine")
        yield f"http://127.0.0.1:{port}"


async def _serve(port: int, delay_ms: int) -> None:
    calls = Calls()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(calls, delay_ms / 1000), "127.0.0.1", port, backlog=4096
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
