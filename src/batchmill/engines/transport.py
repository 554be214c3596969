"""The way to one engine over HTTP/1.1: connections are kept and used again, calls are sent once.

Nothing here sends a request a second time, follows a redirect or uses a proxy. A call counts as
sent as soon as its connection stands; before that it is `Unreachable`, afterwards `Broken`.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import deque
from collections.abc import Callable, Sequence

from batchmill import __version__
from batchmill.calls import (
    Broken,
    Call,
    EngineDown,
    EngineSilent,
    Flight,
    Load,
    Reply,
    Unreachable,
    held_bytes,
)
from batchmill.clock import Clock
from batchmill.engines.address import Address, address_of
from batchmill.engines.budget import ByteBudget
from batchmill.engines.connection import Connection, Ending, Exchange
from batchmill.engines.encodings import Undecodable, decoded
from batchmill.engines.listing import model_names, refusal
from batchmill.engines.load import load_of
from batchmill.engines.parsing import HttpAnswer
from batchmill.engines.replies import classify
from batchmill.fleet import EngineSpec

MAX_REPLY_BYTES = 64 * 1024 * 1024
CONNECT_SECONDS = 10.0
LISTING_SECONDS = 10.0
METRICS_SECONDS = 2.0
MAX_METRICS_BYTES = 2 * 1024 * 1024
READ_BYTES = 64 * 1024
SECRET_BYTES = 8
"""A shorter key is a word as any other: it is not looked for in what an engine says."""
EXPIRY_SECONDS = 0.1
"""How often it is looked for calls and connections whose time is over."""
IDLE_SECONDS = 3.0
"""A connection idle for longer is not used again: uvicorn and llama.cpp close theirs after 5 s,
and a call that meets the closing is lost."""
STALE_SECONDS = 10.0
STALE_LIMIT_SECONDS = 600.0
"""For how long no connection is used again after an engine closed one as a call went out on it:
longer each time that happens soon after."""

Ended = Callable[[Exchange, Ending | None, Connection | None], None]


class HttpTransport:
    """Implements `ports.Transport` for one engine, in the event loop that runs when it is made. The
    caller bounds how many calls it makes at once; the byte budget bounds what their replies
    hold."""

    def __init__(
        self,
        spec: EngineSpec,
        clock: Clock,
        budget: ByteBudget,
        *,
        max_reply_bytes: int = MAX_REPLY_BYTES,
        idle_seconds: float = IDLE_SECONDS,
        stale_seconds: float = STALE_SECONDS,
    ) -> None:
        self._spec, self._clock, self._budget = spec, clock, budget
        self._max_reply_bytes, self._idle_seconds = max_reply_bytes, idle_seconds
        self._address = address_of(spec.url, spec.key)
        self._loop = asyncio.get_running_loop()
        self._host = spec.connect_to or self._address.host
        self._tls = ssl.create_default_context() if self._address.is_tls else None
        self._common = _common_headers(self._address)
        self._secret = (self._address.authorization or "").rpartition(" ")[2].encode("latin-1")
        self._heads: dict[str, bytes] = {}
        self._buffer = bytearray(READ_BYTES)
        self._idle: deque[Connection] = deque()
        """Those that nobody uses now; the one that was used last is at the end."""
        self._first_pause = self._pause = stale_seconds
        self._reuses_at = 0.0
        """Until then each call goes on a connection of its own."""
        self._out: set[Exchange] = set()
        self._to_send: list[tuple[Exchange, Sequence[bytes], bool]] = []
        self._watching = False
        self._is_closed = False
        self._usual_bytes = 0
        """About how long the answers are that do not say so; the largest of late."""
        self._for_metrics: HttpTransport | None = None

    def send(self, call: Call, landed: Callable[[Reply], None]) -> Flight:
        def ended(exchange: Exchange, ending: Ending | None, connection: Connection | None) -> None:
            answer = self._received(exchange, ending, connection)
            if answer is None:
                self._budget.resize(exchange.ticket, 0)
                return
            if type(answer) is Broken and answer.kind == "stale":
                self._stop_reuse()
            reply = self._classified(answer) if isinstance(answer, HttpAnswer) else answer
            self._budget.resize(exchange.ticket, held_bytes(reply))
            landed(reply)

        head = self._head(call.path)
        return self._begin(head, call.body, call.timeout_seconds, ended, fresh=call.fresh)

    async def models(self) -> tuple[str, ...]:
        answer = await self.get(self._address.target("/models"), LISTING_SECONDS, fresh=True)
        if isinstance(answer, Broken) and answer.kind == "timeout":
            raise EngineSilent(answer.message)
        if not isinstance(answer, HttpAnswer):
            raise EngineDown(answer.message)
        if not 200 <= answer.status < 300:
            keyed = self._address.authorization is not None
            raise EngineDown(refusal(answer.status, answer.body, keyed=keyed))
        names = model_names(answer.body)
        if names is None:
            raise EngineDown("it answers GET /models, but not with a list of models")
        return names

    async def load(self) -> Load | None:
        if self._for_metrics is None:
            self._for_metrics = HttpTransport(
                self._spec, self._clock, self._budget, max_reply_bytes=MAX_METRICS_BYTES
            )
        answer = await self._for_metrics.get(self._address.metrics_target, METRICS_SECONDS)
        if not isinstance(answer, HttpAnswer) or answer.status != 200:
            return None
        return load_of(answer.body)

    async def close(self) -> None:
        self._is_closed = True
        if self._for_metrics is not None:
            await self._for_metrics.close()
        while self._idle:
            self._idle.pop().drop()

    async def get(self, target: str, seconds: float, *, fresh: bool = False) -> Ending:
        """What the engine says to a GET of that path and query."""
        heard: asyncio.Future[Ending] = self._loop.create_future()

        def ended(exchange: Exchange, ending: Ending | None, connection: Connection | None) -> None:
            answer = self._received(exchange, ending, connection)
            self._budget.resize(exchange.ticket, 0)
            if answer is not None and not heard.done():
                heard.set_result(answer)

        exchange = self._begin(self._request_head("GET", target), b"", seconds, ended, fresh=fresh)
        try:
            return await heard
        finally:
            exchange.abort()

    def _begin(
        self, head: bytes, body: bytes, seconds: float, ended: Ended, *, fresh: bool
    ) -> Exchange:
        """Send once, on an idle connection or a new one, in the loop's next turn. Many answers land
        in one turn, and what they make room for goes out together: an engine on this machine wakes
        once for it, not for each."""
        exchange = Exchange(self._budget, self._usual_bytes, seconds, self._loop.time(), ended)
        self._out.add(exchange)
        if not self._watching:
            self._watch_time()
        whole_head = b"%b%d\r\n\r\n" % (head, len(body))
        request = (whole_head, body) if body else (whole_head,)  # asyncio never ends an empty piece
        if not self._to_send:
            self._loop.call_soon(self._send_all)
        self._to_send.append((exchange, request, fresh))
        return exchange

    def _send_all(self) -> None:
        to_send, self._to_send = self._to_send, []
        now = self._loop.time()
        for exchange, request, fresh in to_send:
            if exchange.is_over:
                continue
            connection = None if fresh else self._idle_connection(now)
            if connection is not None:
                connection.begin(exchange, request)
            else:
                work = self._connect_and_begin(exchange, request)
                exchange.connecting = self._loop.create_task(work)

    async def _connect_and_begin(self, exchange: Exchange, request: Sequence[bytes]) -> None:
        connection = await self._connect(exchange.seconds)
        exchange.connecting = None
        if isinstance(connection, Unreachable):
            exchange.end(connection, None)
        else:
            connection.begin(exchange, request)

    def _received(
        self, exchange: Exchange, ending: Ending | None, connection: Connection | None
    ) -> Ending | None:
        """What the engine answered, decoded; its connection is kept for others."""
        self._out.discard(exchange)
        if connection is not None:
            self._keep(connection)
        if not isinstance(ending, HttpAnswer):
            return ending
        if b"content-length" not in ending.headers:
            self._usual_bytes = max(len(ending.body), self._usual_bytes * 7 // 8)
        answer = self._decoded(ending) if b"content-encoding" in ending.headers else ending
        return answer if isinstance(answer, Broken) else self._without_secret(answer)

    def _without_secret(self, answer: HttpAnswer) -> HttpAnswer:
        """An answer that is none, without our key: gateways repeat the one that they refuse, and
        what they say is shown to users."""
        secret = self._secret
        if 200 <= answer.status < 300 or len(secret) < SECRET_BYTES or secret not in answer.body:
            return answer
        return HttpAnswer(answer.status, answer.headers, answer.body.replace(secret, b"***"))

    def _classified(self, answer: HttpAnswer) -> Reply:
        return classify(answer.status, answer.header, answer.body, now=self._clock.wall())

    def _watch_time(self) -> None:
        """End the exchanges whose time is over, and close connections that were idle for too long:
        an engine may keep its end for ever. Again and again while there is any."""
        now = self._loop.time()
        for exchange in [each for each in self._out if each.deadline <= now]:
            if exchange.connection is not None:
                exchange.connection.expire()
        while self._idle and not self._idle[0].is_fit(self._idle_seconds, now):
            self._idle.popleft().drop()
        self._watching = bool(self._out or self._idle)
        if self._watching:
            self._loop.call_later(EXPIRY_SECONDS, self._watch_time)

    def _idle_connection(self, now: float) -> Connection | None:
        """The connection that was used last, if one is fit; the others go."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_fit(self._idle_seconds, now):
                return connection
            connection.drop()
        return None

    def _keep(self, connection: Connection) -> None:
        if self._is_closed or self._reuses_at > self._loop.time():
            connection.drop()
        else:
            self._idle.append(connection)

    def _stop_reuse(self) -> None:
        """The engine closes connections that it said it would keep: use none again for a while.
        Those that are lost meanwhile went out before."""
        now = self._loop.time()
        if now < self._reuses_at:
            return
        is_soon = 0.0 < self._reuses_at > now - self._pause
        self._pause = min(STALE_LIMIT_SECONDS, 2 * self._pause) if is_soon else self._first_pause
        self._reuses_at = now + self._pause
        while self._idle:
            self._idle.pop().drop()

    async def _connect(self, seconds: float) -> Connection | Unreachable:
        address = self._address
        try:
            async with asyncio.timeout(min(CONNECT_SECONDS, seconds)):
                _, connection = await self._loop.create_connection(
                    lambda: Connection(self._buffer, self._max_reply_bytes),
                    self._host,
                    address.port,
                    ssl=self._tls,
                    server_hostname=address.host if self._tls is not None else None,
                )
        except TimeoutError:
            return Unreachable(f"{address.name} cannot be reached: connecting took too long")
        except Exception as error:  # noqa: BLE001 - whatever it is, the call must not hang
            return Unreachable(f"{address.name} cannot be reached: {_why(error)}")
        if not connection.is_open():
            return Unreachable(f"{address.name} closes connections as soon as they are made")
        return connection

    def _head(self, path: str) -> bytes:
        """The head of a POST to that path, up to the value of its Content-Length."""
        head = self._heads.get(path)
        if head is None:
            head = self._heads[path] = self._request_head("POST", self._address.target(path))
        return head

    def _request_head(self, method: str, target: str) -> bytes:
        return f"{method} {target} HTTP/1.1\r\n{self._common}".encode("latin-1")

    def _decoded(self, answer: HttpAnswer) -> HttpAnswer | Broken:
        try:
            encoding = answer.header("content-encoding") or ""
            body = decoded(answer.body, encoding, self._max_reply_bytes)
        except Undecodable as error:
            return Broken("not_json", str(error), answer.status)
        return HttpAnswer(answer.status, answer.headers, body)


def _common_headers(address: Address) -> str:
    """The headers of every request, up to the value of its Content-Length."""
    lines = [
        f"Host: {address.name}",
        f"User-Agent: batchmill/{__version__}",
        "Accept: application/json",
        "Accept-Encoding: identity",
        "Content-Type: application/json",
    ]
    if address.authorization is not None:
        lines.append(f"Authorization: {address.authorization}")
    return "\r\n".join([*lines, "Content-Length: "])


def _why(error: Exception) -> str:
    """What the system says, without the address that it repeats."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"no TLS with it: {error.reason or error}"
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
