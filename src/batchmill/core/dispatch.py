"""Keeping every engine's window full from the open shards. No barriers: a slow line holds one
slot and nothing else.

Whenever something may be sendable the dispatcher takes the next lines of the pool and sends each
once; when a reply lands it does what `retry.decide` says and sends the next line in the freed
slot. A line that has to wait goes back to the pool and holds no slot. No line costs a task, but
those of a serial shard: each is noted in the ledger before it is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import structlog
from msgspec import Struct

from batchmill.calls import (
    Answered,
    Broken,
    Call,
    Flight,
    Overloaded,
    Refused,
    Reply,
    held_bytes,
)
from batchmill.clock import Clock, jitter
from batchmill.core.bundling import Bundles
from batchmill.core.collect import Collector
from batchmill.core.gate import Gate, Route
from batchmill.core.lines import open_line, with_model
from batchmill.core.links import Link
from batchmill.core.linkset import Links
from batchmill.core.outcomes import write_outcome
from batchmill.core.pool import Pool
from batchmill.core.retry import Again, Decision, Finish, SetAside, decide, is_faulty
from batchmill.core.slots import Slot
from batchmill.core.work import OpenLine, OpenShard
from batchmill.errors import LedgerUnavailable
from batchmill.model import Answer, Fate, Outcome, Verdict
from batchmill.ports import Formats, Ledger

log = structlog.get_logger()

ALARM_SECONDS = 0.002
"""How close behind each other alarms ring."""


class Attempt(Struct, eq=False):
    """One line on its way to an engine and back. `flight` is None while its line is noted;
    `tokens` is what it was guessed to cost, where tokens are limited."""

    link: Link
    line: OpenLine
    route: Route
    alone: bool
    sent_at: float
    custom_id: bytes = b""
    flight: Flight | None = None
    tokens: float = 0.0
    slot: Slot | None = None


class Dispatcher:
    """Sends the lines of one pool to all engines."""

    def __init__(
        self,
        links: Links,
        pool: Pool,
        collector: Collector,
        ledger: Ledger,
        formats: Formats,
        clock: Clock,
        *,
        may_send: Callable[[float], bool],
        released: Callable[[int], None],
    ) -> None:
        self.links, self.pool = links, pool
        self._collector, self._ledger, self._formats = collector, ledger, formats
        self._clock, self._may_send, self._released = clock, may_send, released
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0
        self._out: set[Attempt] = set()
        self._bundles = Bundles(self, pool, clock, released)
        self._tasks: asyncio.TaskGroup | None = None
        self._broken: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Send for ever; cancelled by its owner. Aborts what is out when it ends, and ends when
        something here breaks: a line whose reply was dropped would hang for ever."""
        self._broken = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self.ring()
                await self._broken
        finally:
            self._tasks = None
            for attempt in tuple(self._out):
                self._abort(attempt)
            self._bundles.abort()

    def offer(self, shard: OpenShard, lines: list[OpenLine]) -> None:
        """Let the lines of a shard be sent, those that were tried before not before their time; a
        serial shard's one after the other."""
        if shard.serial:
            shard.backlog.extend(lines)
            self.offer_next(shard)
        else:
            self.pool.offer([line for line in lines if line.history is None])
            for line in lines:
                if line.history is not None:
                    self.pool.delay(line, line.again_at)
        self.ring()

    def offer_next(self, shard: OpenShard) -> None:
        """Let a serial shard's next line be sent once none is out or noted and every outcome is
        durable: else the lines before one that kills its worker would be sent, and noted, once
        more."""
        none_is_out = shard.waiting == len(shard.backlog) + shard.followers
        if shard.backlog and none_is_out and not shard.uncommitted and not shard.notes:
            line = shard.backlog.popleft()
            if line.history is None:
                self.pool.add(line)
            else:
                self.pool.delay(line, line.again_at)
            self.ring()

    def withdraw(self, shard: OpenShard) -> None:
        """Send none of the shard's waiting lines any more; others may have waited for them."""
        shard.backlog.clear()
        self.pool.forget(shard)
        self.ring()

    def abort(self, shard: OpenShard) -> None:
        """End the calls that are out for a shard; what they would have answered is not waited
        for."""
        for attempt in [each for each in self._out if each.line.shard is shard]:
            self._abort(attempt)
        self._bundles.abort(shard)
        self.ring()

    def routes_out(self, link: Link) -> list[Route]:
        """The routes of the calls that are out to an engine."""
        mine = [attempt.route for attempt in self._out if attempt.link is link]
        return mine + self._bundles.routes_out(link)

    def ring(self) -> None:
        """Something may be sendable now: fill the engines' windows, the emptiest first."""
        try:
            self._fill()
        except Exception as error:  # noqa: BLE001 - the worker ends with it
            self.broke(error)

    def _fill(self) -> None:
        links = list(self.links) if self._tasks is not None else []
        while links:
            link = min(links, key=_load)
            if link.gate.is_full or not self._send_next(link):
                links.remove(link)

    def _send_next(self, link: Link) -> bool:
        """Send the next line that may go to that engine; False where none may."""
        now = self._clock.boot()
        line = self.pool.next(link.gate, link.serves, now) if self._may_send(now) else None
        if line is None:
            if not link.gate.is_full:
                self._set_alarm(link, now)
            return False
        shard = line.shard
        route: Route = (shard.job.endpoint, line.model)
        if link.spec.embeddings_per_call > 1 and self._bundles.send(link, line, route, now):
            return True
        alone = line.history is not None and line.history.must_run_alone
        attempt = Attempt(link, line, route, alone, now)
        shard.flights += 1
        self._out.add(attempt)
        link.gate.sent(route, alone=alone)
        if link.gate.slots is not None:
            attempt.slot = link.gate.slots.sent()
        if link.gate.limits is not None:
            attempt.tokens = link.gate.limits.spend(line)
        if not shard.serial:
            self._send(attempt)
        elif self._tasks is not None:
            self._tasks.create_task(self._note_and_send(attempt))
        return True

    def _send(self, attempt: Attempt) -> None:
        line, link = attempt.line, attempt.link
        try:
            attempt.custom_id, body = open_line(line.raw)
            if model := attempt.route[1]:
                body = with_model(body, model)
        except (ValueError, RecursionError):
            self._returned(attempt)
            message = "The input of this line could not be read back; it has been damaged."
            self.finish(line, b"null", Outcome(Fate.FAILED, code="internal_error", message=message))
            return
        is_suspect = line.history is not None and line.history.is_suspect
        call = Call(attempt.route[0], body, link.spec.timeout_seconds, is_suspect)
        attempt.flight = link.transport.send(call, partial(self._landed, attempt))

    async def _note_and_send(self, attempt: Attempt) -> None:
        """Note in the ledger that the line of a serial shard goes alone, before it does."""
        if await self._noted(attempt.line) and attempt in self._out:
            attempt.sent_at = self._clock.boot()
            self._send(attempt)
        else:
            self._returned(attempt)
            attempt.line.out = False

    def _landed(self, attempt: Attempt, reply: Reply) -> None:
        try:
            self._returned(attempt)
            if (limits := attempt.link.gate.limits) is not None:
                limits.settle(attempt.line, attempt.tokens, reply)
            if attempt.line.shard.gone:
                self._released(held_bytes(reply))
            else:
                self._act(attempt, reply)
            self.refill(attempt.link)
        except Exception as error:  # noqa: BLE001 - the worker ends with it
            self.broke(error)

    def refill(self, link: Link) -> None:
        """Send the next lines to an engine that has room again."""
        while self._tasks is not None and not link.gate.is_full:
            if not self._send_next(link):
                break

    def broke(self, error: Exception) -> None:
        """End with this error."""
        if self._broken is not None and not self._broken.done():
            self._broken.set_exception(error)

    def _returned(self, attempt: Attempt) -> None:
        """The attempt is over, whatever came of it: its slot is free."""
        if attempt not in self._out:
            return
        self._out.remove(attempt)
        attempt.flight = None  # it knows this attempt: nothing is left to the garbage collector
        shard = attempt.line.shard
        shard.flights -= 1
        self.pool.returned(shard.job)
        attempt.link.gate.returned(attempt.route, alone=attempt.alone)
        if attempt.slot is not None and attempt.link.gate.slots is not None:
            attempt.link.gate.slots.returned(attempt.slot)
        if not shard.sends:
            shard.changed()

    def _abort(self, attempt: Attempt) -> None:
        flight = attempt.flight
        self._returned(attempt)
        if flight is not None:
            flight.abort()

    def _set_alarm(self, link: Link, now: float) -> None:
        """Ring when the next delayed line or closed gate opens, unless it rings in a moment anyway.
        A line whose time has come waits for a gate that has no room now."""
        if self._alarm is not None and self._alarm_at <= now + ALARM_SECONDS:
            return
        known = (self.pool.wakes_at(), link.gate.opens_at(now))
        moments = [moment for moment in known if moment is not None and moment > now]
        if not moments:
            return
        at = min(moments)
        if self._alarm is not None:
            if self._alarm_at <= at:
                return
            self._alarm.cancel()
        self._alarm_at = at
        wait = max(ALARM_SECONDS, at - now)
        self._alarm = asyncio.get_running_loop().call_later(wait, self._alarm_rings)

    def _alarm_rings(self) -> None:
        self._alarm = None
        self.ring()

    async def _noted(self, line: OpenLine) -> bool:
        """Note that this line goes alone; whether it may go."""
        shard = line.shard
        while not shard.gone:
            try:
                if await self._ledger.note_alone(shard.lease.lease, line.local):
                    return shard.sends
                shard.tell(Answer(Verdict.GONE))
            except LedgerUnavailable:
                await self._clock.sleep(0.5)
        return False

    def _act(self, attempt: Attempt, reply: Reply) -> None:
        """Do what follows from a reply."""
        link, line, route = attempt.link, attempt.line, attempt.route
        gate = link.gate
        if isinstance(reply, Answered):
            gate.answered(route, well=True)
            if gate.window is not None:
                now = self._clock.boot()
                gate.took(now - attempt.sent_at, reply.usage.output_tokens, now)
            outcome = Outcome(
                Fate.SUCCEEDED, reply.status, reply.body, reply.request_id, usage=reply.usage
            )
            self.finish(line, attempt.custom_id, outcome, reply.held_bytes)
            if reply.usage.output_tokens:
                self.pool.lengths.learn(line, reply.usage.output_tokens)
            return
        now = self._clock.boot()
        decision = decide(
            reply,
            line.begun_history(),
            answers=gate.answers.get(route, 0),
            alone=attempt.alone,
            jitter=jitter(),
            in_outage=gate.is_in_outage(route),
            was_up=gate.was_up(attempt.sent_at),
            crowded=gate.is_crowded(attempt.sent_at),
        )
        self.note(gate, route, reply, decision, attempt.sent_at, now)
        match decision:
            case Finish(outcome):
                self.finish(line, attempt.custom_id, outcome, held_bytes(reply))
            case Again(after_seconds=after) | SetAside(after_seconds=after):
                self._released(held_bytes(reply))
                self.delay(line, now + after)

    def delay(self, line: OpenLine, until: float) -> None:
        """Try the line again from that moment on."""
        if line.shard.serial and self._tasks is not None:
            self._tasks.create_task(self._note_and_delay(line, until))
        else:
            self.pool.delay(line, until)
            self.ring()

    async def _note_and_delay(self, line: OpenLine, until: float) -> None:
        """Note first that the line which was sent alone now waits: a death meanwhile is not its
        own."""
        await self._note_none_alone(line.shard)
        self.pool.delay(line, until)
        self.ring()

    async def _note_landed(self, shard: OpenShard) -> None:
        """Note that the line which was sent alone has its outcome: nor is a death its own while
        that is made durable, which may take as long as the storage is away."""
        await self._note_none_alone(shard)
        shard.notes -= 1
        shard.changed()

    async def _note_none_alone(self, shard: OpenShard) -> None:
        try:
            await self._ledger.note_alone(shard.lease.lease, None)
        except LedgerUnavailable as error:
            log.warning("note_failed", job=shard.job.id, error=str(error))

    def note(
        self, gate: Gate, route: Route, reply: Reply, decision: Decision, sent_at: float, now: float
    ) -> None:
        """Tell the gate what a reply that is no answer says about the engine."""
        if isinstance(reply, Broken) and reply.kind == "timeout":
            gate.timed_out(now)
        match decision:
            case SetAside(scope, reason):
                gate.set_aside(scope, route, reason, sent_at=sent_at, now=now)
            case Again(overloaded=True):
                asked = reply.retry_after_seconds if isinstance(reply, Overloaded) else None
                gate.overloaded(asked, now=now)
            case _ if is_faulty(reply):
                gate.faulted(route, sent_at=sent_at, now=now)
            case _ if isinstance(reply, Refused):
                gate.answered(route, well=False)

    def finish(self, line: OpenLine, custom_id: bytes, outcome: Outcome, held: int = 0) -> None:
        """Give the line its outcome: from here on it is the collector's to make durable, and to
        release the bytes of the budget that are `held` for it."""
        shard = line.shard
        if shard.settled[line.local]:
            self._released(held)
            return
        write_outcome(
            shard,
            line.number,
            line.local,
            custom_id,
            outcome,
            self._formats,
            self._collector,
            held,
        )
        if shard.serial:
            self._collector.hurry()
            if self._tasks is not None:
                shard.notes += 1
                self._tasks.create_task(self._note_landed(shard))


def _load(link: Link) -> float:
    """How full its window is."""
    return link.gate.in_flight / max(1.0, link.gate.allowed)
