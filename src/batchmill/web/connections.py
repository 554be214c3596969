"""Connections that bring no request, or one without an end: uvicorn's own time-outs begin with the
first response, and it takes any number of headers."""

from __future__ import annotations

from asyncio import BaseTransport, TimerHandle
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEADER_BYTES = 64 * 1024
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: text/plain; charset=utf-8\r\nconnection: close\r\n\r\n"
    b"The headers of this request are too large; they may have 64 KiB.\n"
)


class PromptProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, but a connection is cut where the headers of its next request are not
    there in time, or have no end: a client may not keep it for ever by sending them byte by byte,
    or not at all, nor fill the memory with them before anybody has looked at its key."""

    header_seconds: ClassVar[float] = 60.0
    _deadline: TimerHandle | None = None
    _in_headers = False
    _header_bytes = 0
    """How much has come in whole pieces of headers, without their end."""

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._wait_for_headers()

    def data_received(self, data: bytes) -> None:
        was_in_headers = self._in_headers
        super().data_received(data)
        is_more = was_in_headers and self._in_headers
        self._header_bytes = self._header_bytes + len(data) if is_more else 0
        if self._header_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            if self._deadline is not None:  # else an earlier request is still being answered
                self.transport.write(_TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        self._in_headers = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_headers = False
        self._have_them()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        is_last = not self.pipeline
        super().on_response_complete()
        if is_last:
            self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._have_them()
        super().connection_lost(exc)

    def _wait_for_headers(self) -> None:
        self._have_them()
        if not self.transport.is_closing():
            self._deadline = self.loop.call_later(self.header_seconds, self.transport.abort)

    def _have_them(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
