"""A raw TCP server whose every byte a test decides, for what no real HTTP server would send."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Self

Script = Callable[["Connection"], Awaitable[None]]
OK = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{"ok":true}'


@dataclass
class Connection:
    """One accepted connection, and what a script may do on it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    requests: list[tuple[bytes, bytes]]

    async def request(self) -> tuple[bytes, bytes]:
        """Read one whole request: its head and its body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next(
            (
                int(line.split(b":")[1])
                for line in head.lower().split(b"\r\n")
                if line.startswith(b"content-length:")
            ),
            0,
        )
        body = await self.reader.readexactly(length)
        self.requests.append((head, body))
        return head, body

    async def write(self, data: bytes) -> None:
        if self.writer.is_closing():
            raise ConnectionResetError
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        self.writer.transport.abort()


@dataclass
class ScriptedEngine:
    """Runs the script on every connection; knows each request that arrived whole."""

    script: Script
    tls: ssl.SSLContext | None = None
    requests: list[tuple[bytes, bytes]] = field(default_factory=list)
    connections: int = 0
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a client has gone away before its connection's script was through."""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", 0, limit=2**26, ssl=self.tls
        )
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http{'s' if self.tls else ''}://127.0.0.1:{port}/v1"
        return self

    @property
    def open_connections(self) -> int:
        """How many connections no side has ended."""
        return len(self._tasks)

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.ensure_future(self._run(Connection(reader, writer, self.requests)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, connection: Connection) -> None:
        try:
            await self.script(connection)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.lost.set()
        finally:
            connection.writer.close()


def answering(*pieces: bytes, close: bool = False, reset: bool = False) -> Script:
    """A script that answers every request of a connection with these pieces, written apart."""

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            for piece in pieces:
                await connection.write(piece)
                await asyncio.sleep(0)
            if reset:
                connection.reset()
                return
            if close:
                return

    return script


async def gone(connection: Connection) -> None:
    """Wait until the client has let go of the connection."""
    while await connection.reader.read(65536):
        pass
    raise ConnectionResetError


async def until(holds: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for something that only a real socket or process can bring about."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.001)
