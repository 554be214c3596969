"""An engine whose every reply a test decides: the public `Transport` port, without a network."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from batchmill.calls import Answered, Call, EngineDown, Flight, Load, Reply, held_bytes

Script = Callable[[str], Awaitable[Reply]]
"""What becomes of the line with that text."""


async def answers(text: str) -> Reply:
    """The script of an engine that answers at once."""
    return answer_to(text)


def answer_to(text: str) -> Answered:
    body = json.dumps({"said": text}).encode()
    return Answered(200, body, held_bytes=len(body))


class Engine:
    """Implements `calls.Transport`. `sent` are the texts of the lines that came, in their order;
    `aborted` those whose call was cancelled."""

    def __init__(self, script: Script = answers, *, models: tuple[str, ...] = ("m",)) -> None:
        self.script, self.served = script, models
        self.is_down = False
        self.told_load: Load | None = None
        self.sent: list[str] = []
        self.aborted: list[str] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.held_bytes = 0
        self._moved = asyncio.Event()

    def send(self, call: Call, landed: Callable[[Reply], None]) -> Flight:
        text = self.text_of(json.loads(call.body))
        self.sent.append(text)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self._moved.set()
        return _Scripted(self, text, landed)

    def text_of(self, body: dict[str, Any]) -> str:
        """What the script is asked with."""
        return str(body["messages"][0]["content"])

    def landed(self, reply: Reply) -> None:
        """A call came to its end."""
        self.held_bytes += held_bytes(reply)

    def ended(self) -> None:
        """A call is no longer out."""
        self.in_flight -= 1
        self._moved.set()

    async def models(self) -> tuple[str, ...]:
        if self.is_down:
            raise EngineDown("it is away")
        return self.served

    async def load(self) -> Load | None:
        return self.told_load

    async def close(self) -> None:
        """Nothing to let go of."""

    async def got(self, calls: int) -> None:
        """Wait until so many calls came in all."""
        await self._until(lambda: len(self.sent) >= calls)

    async def has(self, in_flight: int) -> None:
        """Wait until exactly so many calls are out."""
        await self._until(lambda: self.in_flight == in_flight)

    async def _until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not holds():
                self._moved.clear()
                await self._moved.wait()


class _Scripted:
    """Implements `calls.Flight`: one call whose reply a script decides."""

    def __init__(self, engine: Engine, text: str, landed: Callable[[Reply], None]) -> None:
        self._engine, self._text, self._landed = engine, text, landed
        self._task = asyncio.create_task(self._fly())

    async def _fly(self) -> None:
        reply = await self._engine.script(self._text)
        self._engine.ended()
        self._engine.landed(reply)
        self._landed(reply)

    def abort(self) -> None:
        if not self._task.done():
            self._task.cancel()
            self._engine.aborted.append(self._text)
            self._engine.ended()


class Held:
    """A script that keeps lines until they are let go: all of them, or those that `holds`
    says."""

    def __init__(self, holds: Callable[[str], bool] = lambda _: True, then: Script = answers):
        self._holds, self._then = holds, then
        self._free = asyncio.Event()

    async def __call__(self, text: str) -> Reply:
        if self._holds(text):
            await self._free.wait()
        return await self._then(text)

    def let_go(self) -> None:
        self._free.set()


class InTurn:
    """A script of one step per call, whatever the line; the last step goes on for ever."""

    def __init__(self, *steps: Script) -> None:
        self._steps = list(steps)

    async def __call__(self, text: str) -> Reply:
        step = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
        return await step(text)
