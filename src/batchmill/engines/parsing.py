"""Bytes of an HTTP/1.1 connection in, complete answers out. Pure; httptools does the grammar.

One parser for each connection, begun anew for each exchange: a connection on which anything was
odd is never used again, so nothing of one answer can reach another.
"""

from __future__ import annotations

import httptools
from msgspec import Struct

from batchmill.calls import Broken

_MAX_OVERHEAD_BYTES = 1024 * 1024
_MAX_OVERHEAD = 8
"""What framing may take: a MiB for the head, and eight times the body, for tiny chunks."""

Headers = dict[bytes, bytes]
"""By their lower-case names, the first of each."""


class HttpAnswer(Struct, frozen=True, gc=False):
    """A complete answer."""

    status: int
    headers: Headers
    body: bytes

    def header(self, name: str) -> str | None:
        """The header of that lower-case name, if it came."""
        value = self.headers.get(name.encode("latin-1"))
        return None if value is None else value.decode("latin-1")


class AnswerParser:
    """Parses one answer after the other. `outcome` is set once the present one is complete, or
    cannot become so; `keeps` tells whether the connection may carry another."""

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._parser = httptools.HttpResponseParser(self)
        self.begin()

    def begin(self) -> None:
        """Expect the answer to the next request."""
        self.outcome: HttpAnswer | Broken | None = None
        self.keeps = False
        self.body_bytes = 0
        self.promised_bytes: int | None = None
        """How long the body is going to be, once the head has come and if it says so."""
        self._received_bytes = 0
        self._has_head = False
        self._fields: list[tuple[bytes, bytes]] = []
        self._headers: Headers = {}
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> HttpAnswer | Broken | None:
        """Take bytes as they come, until `outcome` is set; gives what it then is."""
        self._received_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.keeps = False
        except httptools.HttpParserError as error:
            self._unreadable(str(error))
        if self.outcome is None and self._is_mostly_framing():
            self._unreadable("its headers or chunks are too large")
        return self.outcome

    def end(self) -> None:
        """The connection was closed in order; only an answer without a length may end so."""
        is_chunked = b"chunked" in self._headers.get(b"transfer-encoding", b"").lower()
        if self._has_head and not is_chunked and self.promised_bytes is None:
            self._finish()
        else:
            why = "it was closed before the answer was complete"
            self.fail("reset", f"The connection to the engine was lost: {why}.")

    def fail(self, kind: str, message: str) -> None:
        """The exchange ends without an answer, unless it has ended already."""
        self.keeps = False
        if self.outcome is None:
            self.outcome = Broken(kind, message)
            self._pieces = []

    @property
    def is_blank(self) -> bool:
        """Nothing of the answer has come yet."""
        return not self._received_bytes

    def close(self) -> None:
        """Let go of httptools' parser, which holds on to this object: what a connection held
        should not have to wait for the garbage collector."""
        del self._parser

    # httptools

    def on_message_begin(self) -> None:
        if self.outcome is None:
            self._fields = []  # what came before, if anything, was a 1xx
        else:
            self.keeps = False  # a second answer to one request

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._has_head:
            self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        self._has_head = status >= 200 or status == 101
        self._headers = {name.lower(): value for name, value in reversed(self._fields)}
        if self._has_head and (length := self._headers.get(b"content-length")) is not None:
            self.promised_bytes = int(length)
        if status < 100:
            self._unreadable(f"its status is {status}")
        elif (self.promised_bytes or 0) > self._max_body_bytes:
            self._too_large()

    def on_body(self, body: bytes) -> None:
        if self.outcome is not None:
            return
        self.body_bytes += len(body)
        if self.body_bytes > self._max_body_bytes:
            self._too_large()
        else:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        if self._has_head and self.outcome is None:
            self.keeps = self._parser.should_keep_alive()
            self._finish()

    def _finish(self) -> None:
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces = []
        self.outcome = HttpAnswer(self._parser.get_status_code(), self._headers, body)

    def _too_large(self) -> None:
        limit = self._max_body_bytes // 1_000_000
        self.fail("too_large", f"The engine's answer is larger than {limit} MB.")

    def _unreadable(self, why: str) -> None:
        if self._has_head:
            self.fail("reset", f"The engine's answer breaks off: {why}.")
        else:
            self.fail("not_json", f"The engine does not answer in HTTP/1.1: {why}.")

    def _is_mostly_framing(self) -> bool:
        overhead = self._received_bytes - self.body_bytes
        return overhead > _MAX_OVERHEAD_BYTES + _MAX_OVERHEAD * self.body_bytes
