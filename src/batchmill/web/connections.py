"""Connections that bring no request: uvicorn's own time-outs begin with the first response."""

from __future__ import annotations

from asyncio import BaseTransport, TimerHandle
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class PromptProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, but a connection is cut where the headers of its next request are not
    there in time: a client may not keep it for ever by sending them byte by byte, or not at all."""

    header_seconds: ClassVar[float] = 60.0
    _deadline: TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._wait_for_headers()

    def on_headers_complete(self) -> None:
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
