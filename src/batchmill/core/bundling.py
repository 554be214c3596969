"""Calls that carry many lines of embeddings, for engines whose owner allows it. What is in such a
call stands in `bundle.py`; every other call is the dispatcher's (`dispatch.py`).

A call holds one slot and counts as one request. Whatever comes back that is no answer to each of
its lines counts against none of them: they go again, each by itself, so that no line fails because
of its neighbours, and nothing is asked for twice in company.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import structlog
from msgspec import Struct

from batchmill.calls import (
    Answered,
    Broken,
    Call,
    Flight,
    Overloaded,
    Reply,
    Unreachable,
    held_bytes,
)
from batchmill.clock import Clock, jitter
from batchmill.core.bundle import BUNDLE_BYTES, EMBEDDINGS, Piece, body_of, piece_of, taken_apart
from batchmill.core.gate import Gate, Route
from batchmill.core.links import Link
from batchmill.core.pool import Pool
from batchmill.core.retry import Decision, Finish, History, SetAside, decide
from batchmill.core.work import OpenLine, OpenShard
from batchmill.model import Outcome

log = structlog.get_logger()


class Desk(Protocol):
    """What the dispatcher does with single lines, and with those of a call, too."""

    def finish(self, line: OpenLine, custom_id: bytes, outcome: Outcome, held: int = 0) -> None:
        """Give the line its outcome."""

    def delay(self, line: OpenLine, until: float) -> None:
        """Try the line again from that moment on."""

    def note(
        self, gate: Gate, route: Route, reply: Reply, decision: Decision, sent_at: float, now: float
    ) -> None:
        """Tell the gate what a reply that is no answer says about the engine."""

    def refill(self, link: Link) -> None:
        """Send the next lines to an engine that has room again."""

    def broke(self, error: Exception) -> None:
        """End the worker: something here is wrong."""


class Bundle(Struct, eq=False):
    """One call on its way with its lines, in the order of their inputs. A place is None once its
    shard is no longer ours."""

    link: Link
    route: Route
    pieces: list[Piece]
    seats: list[Piece | None]
    sent_at: float
    tokens: float = 0.0
    flight: Flight | None = None


class Bundles:
    """All such calls of a worker that are out."""

    def __init__(
        self, desk: Desk, pool: Pool, clock: Clock, released: Callable[[int], None]
    ) -> None:
        self._desk, self._pool, self._clock, self._released = desk, pool, clock, released
        self._out: set[Bundle] = set()

    def send(self, link: Link, line: OpenLine, route: Route, now: float) -> bool:
        """Send a line that was taken from the pool together with those that follow it there; False
        where it is to go by itself."""
        if route[0] != EMBEDDINGS or link.gate.is_aside(route):
            return False
        if not link.trust.may_ask(route, now):
            return False
        first = piece_of(line)
        if first is None:
            return False
        pieces = self._gathered(link.gate, first, link.spec.embeddings_per_call, now)
        if len(pieces) == 1:
            return False
        bundle = Bundle(link, route, pieces, list(pieces), now)
        for piece in pieces:
            piece.line.shard.flights += 1
        self._out.add(bundle)
        link.gate.sent(route)
        if (limits := link.gate.limits) is not None:
            bundle.tokens = limits.spend(line)
            bundle.tokens += sum(limits.spend_more(piece.line) for piece in pieces[1:])
        call = Call(EMBEDDINGS, body_of(pieces), link.spec.timeout_seconds)
        bundle.flight = link.transport.send(call, partial(self._landed, bundle))
        return True

    def abort(self, shard: OpenShard | None = None) -> None:
        """End the calls that are out for a shard, or for all. Lines of other shards that are in the
        same call go on in it."""
        for bundle in tuple(self._out):
            for place, piece in enumerate(bundle.seats):
                if piece is not None and shard in (None, piece.line.shard):
                    bundle.seats[place] = None
                    self._left(piece.line)
            if not any(bundle.seats):
                flight = bundle.flight
                self._returned(bundle)
                if flight is not None:
                    flight.abort()

    def routes_out(self, link: Link) -> list[Route]:
        """The route of each call that is out to that engine."""
        return [bundle.route for bundle in self._out if bundle.link is link]

    def _gathered(self, gate: Gate, first: Piece, most: int, now: float) -> list[Piece]:
        pieces, size_bytes = [first], len(first.text)

        def fits(line: OpenLine) -> bool:
            nonlocal size_bytes
            piece = piece_of(line)
            if piece is None or piece.form != first.form:
                return False
            size_bytes += len(piece.text)
            if size_bytes > BUNDLE_BYTES:
                return False
            pieces.append(piece)
            return True

        self._pool.take_more(gate, first.line, most - 1, fits, now)
        return pieces

    def _landed(self, bundle: Bundle, reply: Reply) -> None:
        try:
            self._returned(bundle)
            if (limits := bundle.link.gate.limits) is not None:
                length = sum(piece.line.end - piece.line.start for piece in bundle.pieces)
                limits.settle(bundle.pieces[0].line, bundle.tokens, reply, length)
            held, outcomes = held_bytes(reply), None
            if isinstance(reply, Answered):
                outcomes = taken_apart(reply, bundle.pieces)
            if outcomes is None:
                self._came_to_nothing(bundle, reply)
            else:
                held = self._answered(bundle, outcomes, held)
            self._released(held)
            self._desk.refill(bundle.link)
        except Exception as error:  # noqa: BLE001 - the worker ends with it
            self._desk.broke(error)

    def _answered(self, bundle: Bundle, outcomes: list[Outcome], held: int) -> int:
        """Give the lines their outcomes. What of the held bytes is not passed on with them."""
        bundle.link.trust.went_well(bundle.route)
        now = self._clock.boot()
        bundle.link.gate.answered(bundle.route, well=True)
        bundle.link.gate.took(now - bundle.sent_at, 0, now)
        for piece, outcome in zip(bundle.seats, outcomes, strict=True):
            if piece is not None and not piece.line.shard.gone:
                self._desk.finish(piece.line, piece.custom_id, outcome, held)
                held = 0
        return held

    def _came_to_nothing(self, bundle: Bundle, reply: Reply) -> None:
        """The engine's state is noted as ever. Lines that it did not get, or that it asks to wait,
        wait and may go together again; all others go by themselves at once."""
        link, route, now = bundle.link, bundle.route, self._clock.boot()
        decision = decide(reply, History(), answers=0, alone=False, jitter=jitter())
        self._desk.note(link.gate, route, reply, decision, bundle.sent_at, now)
        is_stale = isinstance(reply, Broken) and reply.kind == "stale"
        was_taken = not is_stale and not isinstance(reply, Overloaded | Unreachable)
        if was_taken and not isinstance(decision, SetAside):
            self._mistrust(link, route, now, is_certain=isinstance(reply, Answered))
        for piece in bundle.seats:
            if piece is None:
                continue
            history = piece.line.begun_history()
            if was_taken:
                history.by_itself = True
                self._pool.add(piece.line)
            else:
                history.waits += isinstance(reply, Overloaded)
                after_seconds = 0.0 if isinstance(decision, Finish) else decision.after_seconds
                self._desk.delay(piece.line, now + after_seconds)

    def _mistrust(self, link: Link, route: Route, now: float, *, is_certain: bool) -> None:
        if link.trust.refused(route, now, is_certain=is_certain):
            log.warning("arrays_refused", engine=link.spec.name, model=route[1])

    def _returned(self, bundle: Bundle) -> None:
        """The call is over: its slot is free, and its lines are out no longer."""
        if bundle not in self._out:
            return
        self._out.remove(bundle)
        bundle.flight = None  # it knows this bundle: nothing is left to the garbage collector
        for piece in bundle.seats:
            if piece is not None:
                self._left(piece.line)
        bundle.link.gate.returned(bundle.route)

    def _left(self, line: OpenLine) -> None:
        shard = line.shard
        shard.flights -= 1
        self._pool.returned(shard.job)
        if not shard.sends:
            shard.changed()
