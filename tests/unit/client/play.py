"""Plays the server for the steps of an operation: no network, no clock."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

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
    Steps,
    Stream,
)

CUT = Lost("cut")
SILENT = Lost("silent")
"""No answer for as long as the request waits for one."""
Server = Callable[[Request], Any]


@dataclass
class Opened:
    """An answer in pieces, of which `CUT` is a break."""

    pieces: Sequence[Any]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def part(data: bytes, at: int, *pieces: Any) -> Opened:
    """The pieces as the rest of that data from there on."""
    return Opened(pieces, 206, {"content-range": f"bytes {at}-{len(data) - 1}/{len(data)}"})


def reply(body: Any, status: int = 200, **headers: str) -> Reply:
    """An answer with a JSON body."""
    return Reply(status, json.dumps(body).encode(), headers)


class Play:
    """Does what steps want with a `server`: a function from requests to answers. Of an opened
    one it takes `Opened` instead, or a list of the pieces of a whole one."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.asked: list[Request] = []
        self.now = 0.0
        self.given: list[Any] = []

    def run(self, steps: Steps[Any]) -> Any:
        """What the operation ends with; `given` holds what it gave."""
        streams: dict[int, Iterator[Any]] = {}
        came: Any = None
        while True:
            try:
                step = steps.send(came)
            except StopIteration as end:
                return end.value
            came = self._do(step, streams)

    def _do(self, step: Any, streams: dict[int, Iterator[Any]]) -> Any:
        match step:
            case Request():
                self.asked.append(step)
                answer = self._server(step)
                self.now += step.seconds if answer is SILENT else 0.0
                return answer
            case Open():
                self.asked.append(step.request)
                answer = self._server(step.request)
                opened = Opened(answer) if isinstance(answer, list) else answer
                if not isinstance(opened, Opened):
                    return opened
                number = max(streams, default=0) + 1
                streams[number] = iter(opened.pieces)
                return Stream(number, opened.status, opened.headers)
            case Read():
                return next(streams[step.stream.number], None)
            case Pause():
                self.now += step.seconds
            case Clock():
                return self.now
            case Give():
                self.given.append(step.value)
            case Close():
                streams.pop(step.stream.number)
        return None
