"""Doing the steps of an operation one after the other, blocking."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
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


class Blocking:
    """A connection to one server, for any number of operations, one at a time."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._clock = SystemClock()
        self._is_known = False
        self._http = httpx.Client(**settings_of(address))

    def close(self) -> None:
        self._http.close()

    def run(self, steps: Steps[T]) -> T:
        """Do an operation that gives nothing on its way; what it ends with."""
        given = self.iterate(steps)
        while True:
            try:
                next(given)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]

    def iterate(self, steps: Steps[Any]) -> Iterator[Any]:
        """What an operation gives. Stopped early, it lets go of what it read."""
        open_streams: dict[int, tuple[httpx.Response, Iterator[bytes]]] = {}
        came: Any = None
        try:
            while True:
                try:
                    step: Step = steps.send(came)
                except StopIteration as end:
                    return end.value  # type: ignore[no-any-return]
                if isinstance(step, Give):
                    came = yield step.value
                else:
                    came = self._do(step, open_streams)
        finally:
            steps.close()
            for response, _ in open_streams.values():
                response.close()

    def _do(
        self, step: Step, open_streams: dict[int, tuple[httpx.Response, Iterator[bytes]]]
    ) -> Any:
        match step:
            case Request():
                return self._send(step)
            case Pause():
                return time.sleep(step.seconds)
            case Clock():
                return self._clock.boot()
            case Open():
                return self._open(step.request, open_streams)
            case Read():
                return self._read(step.stream, open_streams)
            case Close():
                if opened := open_streams.pop(step.stream.number, None):
                    with suppress(*LOSSES):
                        opened[0].close()
        return None

    def _send(self, request: Request) -> Reply | Lost:
        try:
            answer = self._http.request(**arguments_of(request))
        except LOSSES as error:
            return lost(error, self.address, is_known=self._is_known)
        self._is_known = True
        return Reply(answer.status_code, answer.content, answer.headers)

    def _open(
        self,
        request: Request,
        open_streams: dict[int, tuple[httpx.Response, Iterator[bytes]]],
    ) -> Stream | Reply | Lost:
        try:
            built = self._http.build_request(**arguments_of(request))
            answer = self._http.send(built, stream=True)
            if answer.status_code >= 300:
                answer.read()
                return Reply(answer.status_code, answer.content, answer.headers)
        except LOSSES as error:
            return lost(error, self.address, is_known=self._is_known)
        number = max(open_streams, default=0) + 1
        open_streams[number] = (answer, answer.iter_raw(PIECE_BYTES))
        return Stream(number, answer.status_code, answer.headers)

    def _read(
        self, stream: Stream, open_streams: dict[int, tuple[httpx.Response, Iterator[bytes]]]
    ) -> bytes | Lost | None:
        try:
            return next(open_streams[stream.number][1], None)
        except LOSSES as error:
            return lost(error, self.address, is_known=self._is_known)
