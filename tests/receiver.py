"""A webhook receiver that does what a test tells it, on a real socket, and counts who connects."""

from __future__ import annotations

import contextlib
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SO_LINGER, SOL_SOCKET, socket
from typing import Any

Act = Callable[[BaseHTTPRequestHandler], None]


@dataclass(frozen=True)
class Received:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


def answers(status: int, **headers: str) -> Act:
    """Answer with that status."""

    def act(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("content-length", "0")
        handler.end_headers()

    return act


def resets(handler: BaseHTTPRequestHandler) -> None:
    """Break the connection off."""
    handler.connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.connection.close()


class Hangs:
    """Says nothing until it is let go."""

    def __init__(self) -> None:
        self.free = threading.Event()

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        self.free.wait(60)
        handler.close_connection = True


@dataclass
class Receiver:
    """Acts by the script, whose last step goes on for ever."""

    script: list[Act] = field(default_factory=lambda: [answers(200)])
    port: int = 0
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    server: Any = None

    def start(self, tls: ssl.SSLContext | None = None) -> Receiver:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                step = receiver.script.pop(0) if len(receiver.script) > 1 else receiver.script[0]
                receiver.received.append(Received(self.path, headers, body))
                step(self)

            do_GET = do_POST  # noqa: N815 - called by that name

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def get_request(self) -> tuple[socket, Any]:
                connection, address = super().get_request()
                receiver.connections += 1
                return connection, address

            def handle_error(self, *_: Any) -> None:
                pass  # a client that goes away is part of many tests

        self.server = Server(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_port
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Listen no more; the port is kept for the next start."""
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}/hook"


@contextlib.contextmanager
def receiving(*script: Act) -> Iterator[Receiver]:
    """A running receiver for the block."""
    receiver = Receiver(list(script) or [answers(200)]).start()
    try:
        yield receiver
    finally:
        receiver.stop()
