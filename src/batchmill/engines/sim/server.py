"""The simulator's sockets: HTTP/1.1 on an asyncio protocol, so that connections can be reset,
answers cut and calls left hanging. What is answered stands in `engine.py`.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import cast

import httptools
import msgspec

from batchmill.engines.sim.batching import Batch
from batchmill.engines.sim.counts import Counts
from batchmill.engines.sim.engine import HTML, TEXT, Engine, Plan, reason_of
from batchmill.engines.sim.metrics import exposition
from batchmill.engines.sim.settings import BadSetting, Settings, changed

CRASH_SECONDS = 1.0
_NOT_FOUND = Plan(404, b'{"error":{"message":"Not Found","type":"not_found"}}')


class Simulator:
    """A simulated engine that listens; lives until its process ends or `close`."""

    def __init__(self, settings: Settings, host: str = "127.0.0.1") -> None:
        self.engine = Engine(settings)
        self.counts = Counts(window_seconds=settings.window)
        self.batch: Batch[_Call] = Batch()
        self.connections: set[_Connection] = set()
        self.port = 0
        self._host = host
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self.port}/v1"

    def now(self) -> float:
        """The simulator's own clock."""
        return asyncio.get_running_loop().time()

    async def listen(self, port: int) -> None:
        """Accept connections; port 0 takes a free one."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self), self._host, port, backlog=4096, reuse_address=True
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
        for connection in tuple(self.connections):
            connection.reset()

    def answer(self, method: str, path: str, key: str, body: bytes) -> Plan:
        """What is no call to the engine is answered at once: models, metrics, control."""
        routes: dict[tuple[str, str], Callable[[], Plan]] = {
            ("GET", "/v1/models"): lambda: self.engine.models(key),
            ("GET", "/health"): lambda: Plan(200, b"", TEXT),
            ("GET", "/metrics"): lambda: Plan(200, self._metrics(), TEXT),
            ("GET", "/sim/calls"): lambda: Plan(200, self.counts.seen(self.now())),
            ("POST", "/sim/control"): lambda: self._control(body),
            ("POST", "/sim/reset"): self._reset,
        }
        return routes.get((method, path), lambda: _NOT_FOUND)()

    def leave(self, call: _Call) -> None:
        """A call is over, whatever became of it; others may take its place."""
        for following in self.batch.leave(call, self.engine.settings.batch):
            following.serve()

    def crash(self) -> None:
        """Lose all connections, and come back to the same port a second later."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for connection in tuple(self.connections):
            connection.reset()
        asyncio.get_running_loop().call_later(CRASH_SECONDS, self._come_back)

    def _come_back(self) -> None:
        self._returning = asyncio.ensure_future(self.listen(self.port))

    def _reset(self) -> Plan:
        self.counts.reset(self.now())
        self.engine.forget()
        return Plan(200, b"{}")

    def _control(self, body: bytes) -> Plan:
        try:
            wishes = msgspec.json.decode(body, type=dict[str, object])
            self.engine.settings = changed(self.engine.settings, wishes)
            self.counts.window_seconds = self.engine.settings.window
        except (BadSetting, msgspec.DecodeError) as error:
            return Plan(400, msgspec.json.encode({"error": {"message": str(error)}}))
        for following in self.batch.refill(self.engine.settings.batch):
            following.serve()
        return Plan(200, msgspec.json.encode(self.engine.settings))

    def _metrics(self) -> bytes:
        settings = self.engine.settings
        model = settings.models[0] if settings.models else ""
        running, waiting = len(self.batch.running), self.batch.waiting
        return exposition(model, running, waiting, settings.batch, self.engine.prefixes)


class _Call:
    """One call from its arrival to its end."""

    __slots__ = ("_connection", "_plan", "_simulator", "_timer")

    def __init__(self, simulator: Simulator, connection: _Connection, plan: Plan) -> None:
        self._simulator, self._connection, self._plan = simulator, connection, plan
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Be answered at once, be served, or wait in line."""
        settings = self._simulator.engine.settings
        batch = self._simulator.batch
        if self._plan.service_seconds is None:
            self._finish()
        elif settings.queue >= 0 and settings.batch and self._is_full(settings):
            self._plan = Plan(503, b'{"error":{"message":"The queue is full."}}')
            self._finish()
        elif batch.join(self, settings.batch):
            self.serve()

    def serve(self) -> None:
        """A place in the batch is free: work, then answer."""
        seconds = self._plan.service_seconds or 0.0
        if self._plan.action == "hang":
            return
        if seconds > 0.0:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._finish)
        else:
            self._finish()

    def abort(self) -> None:
        """The client went away."""
        if self._timer is not None:
            self._timer.cancel()
        self._simulator.counts.went_away(self._simulator.now())
        self._simulator.leave(self)

    def _is_full(self, settings: Settings) -> bool:
        batch = self._simulator.batch
        return len(batch.running) >= settings.batch and batch.waiting >= settings.queue

    def _finish(self) -> None:
        simulator, connection, plan = self._simulator, self._connection, self._plan
        connection.call = None
        status = plan.status if plan.action == "answer" else None
        simulator.counts.ended(status, simulator.now())
        match plan.action:
            case "answer":
                connection.send(plan)
            case "reset":
                connection.reset()
            case "cut":
                connection.send_half(plan)
            case "exit":
                os._exit(1)
            case _:
                simulator.crash()
        simulator.leave(self)


class _Connection(asyncio.Protocol):
    """One connection; serves one request after the other."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._parser = httptools.HttpRequestParser(self)
        self.call: _Call | None = None
        self._url = b""
        self._key = ""
        self._body: list[bytes] = []
        self._requests = 0

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._simulator.connections.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._transport.close()
        except httptools.HttpParserError:
            self.send(Plan(400, b"<h1>400 Bad Request</h1>", HTML))
            self._transport.close()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, _exc: Exception | None) -> None:
        self._simulator.connections.discard(self)
        if self.call is not None:
            call, self.call = self.call, None
            call.abort()

    # httptools

    def on_message_begin(self) -> None:
        self._url, self._key, self._body = b"", "", []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        lower = name.lower()
        if lower == b"authorization":
            self._key = value.decode("latin-1")
        elif lower == b"expect":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        path = self._url.partition(b"?")[0].decode("latin-1")
        method = self._parser.get_method().decode()
        body = b"".join(self._body)
        self._body = []
        simulator = self._simulator
        if method != "POST" or path.startswith("/sim/"):
            self.send(simulator.answer(method, path, self._key, body))
            return
        if self.call is not None:
            self.reset()  # a second request before the first was answered
            return
        counts = simulator.counts
        counts.arrived(path, body, simulator.now())
        plan = simulator.engine.receive(path, self._key, body, counts.in_flight)
        self.call = _Call(simulator, self, plan)
        self.call.begin()

    # answering

    def send(self, plan: Plan) -> None:
        """Send a whole answer and keep the connection, if the client does."""
        self._requests += 1
        self._transport.write(self._head(plan) + plan.body)
        if not self._parser.should_keep_alive():
            self._transport.close()

    def send_half(self, plan: Plan) -> None:
        """Send an answer that ends in the middle."""
        self._transport.write(self._head(plan) + plan.body[: len(plan.body) // 2])
        self._transport.close()

    def reset(self) -> None:
        """Drop the connection with a RST, as a process that died does."""
        raw = self._transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self._transport.abort()

    def _head(self, plan: Plan) -> bytes:
        extra = b"Retry-After: %g\r\n" % plan.retry_after if plan.retry_after else b""
        return b"HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n%s\r\n" % (
            plan.status,
            reason_of(plan.status),
            plan.kind,
            len(plan.body),
            b"X-Request-Id: sim-%x-%d\r\n%s" % (id(self), self._requests, extra),
        )
