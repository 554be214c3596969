"""A TCP proxy between a client and a server that tests can make refuse, cut, delay or stall.

It knows nothing of what is spoken: it stands before an object store or a PostgreSQL alike. It runs
in a thread of its own; every method may be called from any thread, and holds for what comes after.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

CHUNK_BYTES = 64 * 1024


@dataclass
class Rules:
    """What happens to what passes."""

    delay_seconds: float = 0.0
    """Before what a client sends after an answer: once for each request."""
    refuses: bool = False
    stalls: bool = False
    """Nothing passes in either direction; connections stay open."""
    cuts: int = 0
    """So many answers are cut off after `cut_bytes`."""
    cut_bytes: int = 0
    loses: int = 0
    """So many requests reach the server, and their answers do not come back."""
    says: bytes | None = None
    """What every request is answered with, in place of the server."""
    says_times: int | None = None


class Proxy:
    """Listens on a free port of loopback and passes all on to `target`."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.rules = Rules()
        self.requests = 0
        """How often a client began to send after an answer."""
        self._loop = asyncio.new_event_loop()
        self._open: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._do(self._listen())
        self.port: int = self._server.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """Reset every connection, present and to come: the server is away."""
        self.rules.refuses = True
        self.reset()

    def resume(self) -> None:
        """Let everything pass again."""
        self.rules = Rules(delay_seconds=self.rules.delay_seconds)
        self.reset()

    def reset(self) -> None:
        """Cut the connections that are open now."""
        self._do(self._reset())

    def close(self) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def _do(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(10)

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def _close(self) -> None:
        self._server.close()
        await self._reset()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _reset(self) -> None:
        for writer in list(self._open):
            _cut(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.rules.refuses:
            _cut(writer)
            return
        try:
            from_server, to_server = await asyncio.open_connection(*self.target)
        except OSError:
            _cut(writer)
            return
        both = (writer, to_server)
        self._open.update(both)
        link = _Link(self, reader, writer, from_server, to_server)
        ways = [asyncio.create_task(link.up()), asyncio.create_task(link.down())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            self._open.difference_update(both)
            for each in both:
                _cut(each)


@dataclass
class _Link:
    """One connection through the proxy."""

    proxy: Proxy
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    from_server: asyncio.StreamReader
    to_server: asyncio.StreamWriter
    answered: bool = True
    said_bytes: int = 0

    async def up(self) -> None:
        """What the client sends."""
        with contextlib.suppress(OSError):
            while data := await self.reader.read(CHUNK_BYTES):
                rules = self.proxy.rules
                if self.answered:
                    self.answered, self.said_bytes = False, 0
                    self.proxy.requests += 1
                    if rules.delay_seconds:
                        await asyncio.sleep(rules.delay_seconds)
                if rules.says is not None and rules.says_times != 0:
                    await self._say(rules)
                    return
                await self._unstalled()
                self.to_server.write(data)
                await self.to_server.drain()

    async def _say(self, rules: Rules) -> None:
        """Answer in the server's place, once the client has said all it had to say."""
        if rules.says_times is not None:
            rules.says_times -= 1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                while await self.reader.read(CHUNK_BYTES):
                    pass
        self.writer.write(rules.says or b"")
        await self.writer.drain()
        self.writer.close()
        await self.writer.wait_closed()

    async def down(self) -> None:
        """What the server answers."""
        with contextlib.suppress(OSError):
            while data := await self.from_server.read(CHUNK_BYTES):
                rules = self.proxy.rules
                if rules.loses > 0:
                    rules.loses -= 1
                    return
                await self._unstalled()
                self.answered = True
                self.said_bytes += len(data)
                if rules.cuts > 0 and self.said_bytes > rules.cut_bytes:
                    rules.cuts -= 1
                    over = self.said_bytes - rules.cut_bytes
                    self.writer.write(data[: len(data) - over])
                    await self.writer.drain()
                    return
                self.writer.write(data)
                await self.writer.drain()

    async def _unstalled(self) -> None:
        while self.proxy.rules.stalls:
            await asyncio.sleep(0.02)


def _cut(writer: asyncio.StreamWriter) -> None:
    """End a connection without a word."""
    with contextlib.suppress(OSError, RuntimeError):
        sock = writer.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()


@contextlib.contextmanager
def proxied(target: tuple[str, int]) -> Iterator[Proxy]:
    """A proxy for the block."""
    proxy = Proxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
