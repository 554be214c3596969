"""Doing the steps of an operation one after the other, awaiting; otherwise as `blocking.py`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from typing import Any, TypeVar

import httpx2 as httpx

from batchmill.client.address import Address
from batchmill.client.connection import LOSSES, PIECE_BYTES, arguments_of, lost, settings_of
from batchmill.client.steps import (
    Clock,
    Close,
    Give,
    Lost,
    Open,
    Pause,
    Read,
    Reply,
    Request,
    Step,
    Steps,
    Stream,
)
from batchmill.clock import SystemClock

T = TypeVar("T")


class _Ended(Exception):
    """Carries what an operation ended with; never leaves this module."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Awaiting:
    """A connection to one server, for any number of operations, also side by side."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._clock = SystemClock()
        self._is_known = False
        self._http = httpx.AsyncClient(**settings_of(address))

    async def close(self) -> None:
        await self._http.aclose()

    async def run(self, steps: Steps[T]) -> T:
        """Do an operation that gives nothing on its way; what it ends with."""
        try:
            async with aclosing(self._iterate(steps)) as given:
                async for _ in given:
                    pass
        except _Ended as end:
            return end.value  # type: ignore[no-any-return]
        raise AssertionError("an operation ends")

    async def iterate(self, steps: Steps[Any]) -> AsyncGenerator[Any, None]:
        """What an operation gives. Stopped early, it lets go of what it read."""
        async with aclosing(self._iterate(steps)) as given:
            try:
                async for value in given:
                    yield value
            except _Ended:
                return

    async def _iterate(self, steps: Steps[Any]) -> AsyncGenerator[Any, None]:
        open_streams: dict[int, tuple[httpx.Response, AsyncIterator[bytes]]] = {}
        came: Any = None
        try:
            while True:
                try:
                    step: Step = steps.send(came)
                except StopIteration as end:
                    raise _Ended(end.value) from None
                if isinstance(step, Give):
                    came = yield step.value
                else:
                    came = await self._do(step, open_streams)
        finally:
            steps.close()
            for response, _ in open_streams.values():
                await response.aclose()

    async def _do(
        self, step: Step, open_streams: dict[int, tuple[httpx.Response, AsyncIterator[bytes]]]
    ) -> Any:
        match step:
            case Request():
                return await self._send(step)
            case Pause():
                return await asyncio.sleep(step.seconds)
            case Clock():
                return self._clock.boot()
            case Open():
                return await self._open(step.request, open_streams)
            case Read():
                return await self._read(step.stream, open_streams)
            case Close():
                if opened := open_streams.pop(step.stream.number, None):
                    with suppress(*LOSSES):
                        await opened[0].aclose()
        return None

    async def _send(self, request: Request) -> Reply | Lost:
        try:
            answer = await self._http.request(**arguments_of(request))
        except LOSSES as error:
            return lost(error, self.address, is_known=self._is_known)
        self._is_known = True
        return Reply(answer.status_code, answer.content, answer.headers)

    async def _open(
        self,
        request: Request,
        open_streams: dict[int, tuple[httpx.Response, AsyncIterator[bytes]]],
    ) -> Stream | Reply | Lost:
        try:
            built = self._http.build_request(**arguments_of(request))
            answer = await self._http.send(built, stream=True)
            if answer.status_code >= 300:
                await answer.aread()
                return Reply(answer.status_code, answer.content, answer.headers)
        except LOSSES as error:
            return lost(error, self.address, is_known=self._is_known)
        number = max(open_streams, default=0) + 1
        open_streams[number] = (answer, answer.aiter_raw(PIECE_BYTES))
        return Stream(number, answer.status_code, answer.headers)

    async def _read(
        self, stream: Stream, open_streams: dict[int, tuple[httpx.Response, AsyncIterator[bytes]]]
    ) -> bytes | Lost | None:
        try:
            return await anext(open_streams[stream.number][1], None)
        except LOSSES as error:
            return lost(error, self.address, is_known=self._is_known)
