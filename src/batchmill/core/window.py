"""How many calls an engine is given at once, found while it works.

An engine queues instead of refusing, so the window is moved and what comes of it is looked at: it
doubles while the throughput follows, goes back to the knee, and from there more and fewer are
tried now and then. An engine that tells of its queue is believed. Pure but for its own state: time
comes in as an argument. The measuring is in `slices.py`, the queue in `queueing.py`, politeness in
`politeness.py`, the first seconds in `youth.py`; why it is so in
`docs/decisions/0011-the-window.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from batchmill.calls import Load
from batchmill.core.patience import Patience
from batchmill.core.politeness import Manners
from batchmill.core.queueing import EngineQueue
from batchmill.core.slices import Cost, Slice
from batchmill.core.tries import Phase, Refusals, Tries
from batchmill.core.youth import Youth

START = 8
CEILING = 1024
LEAST = 4.0
"""So many calls an engine gets however long its queue is."""
BLIND_CEILING = 256
"""So far it grows on the engine's word alone, before any answer has come."""
HARMLESS_SECONDS = 0.055
"""Answers that take no longer are never too many: nobody notices, and no engine runs dry."""
CLIMBS = 0.7
"""Doubling goes on while the throughput follows at least so much (1: wholly)."""
EMPTY_CLIMBS = 0.35
"""The same where the engine says that nothing waits in it."""
RISES = 0.12
FALLS = 0.12
"""A wider window is kept where it gains at least so much, a narrower one where it costs less,"""
RELAXED = 1.5
DEARER = 0.2
"""and more of both for each time that answers take longer than so much of their best: where many
fill one engine each gains by pushing, and only the others' answers take longer."""
MOST_DEARER = 0.6
"""At most so much: a loss in full proportion is always one, however slow the engine has become."""
CROWDED = 3.5
WIDER = 1.35
NARROWER = 0.85
SETTLING = 1.2
"""So many round trips pass before the effect of another window is measured."""
LEAST_SECONDS = 0.05
FINE = 0.04
"""Slices that differ by more for no reason are made longer."""
FULL = 0.85
"""Where fewer calls were out, in parts of the window, it is not the window that held them back."""
CUT = 0.7
AS_FAST = 1.2
"""Answers that take no longer than so much of their best do not wait."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided last, for people; `at` of `Clock.boot`."""

    size: int
    why: str
    at: float = 0.0


class Window:
    """The window of one engine. `size` is how many calls it may have now."""

    def __init__(
        self,
        start: int = START,
        ceiling: int = CEILING,
        manners: Manners | None = None,
        timeout_seconds: float = inf,
    ) -> None:
        self.ceiling = float(ceiling)
        self.patience, self._youth = Patience(timeout_seconds), Youth(float(start))
        self.manners = manners
        self.phase = Phase.CLIMB
        self.size = self._size = min(float(start), self.ceiling)
        """What is given, and what would be if nobody else were there."""
        self.decision = Decision(int(self.size), "it begins")
        self._moved_at = -1.0
        """Negative: no answer has come yet."""
        self._slice, self._slice_at, self._is_doubtful = Slice(), 0.0, False
        self._cost, self._queue, self._tries = Cost(), EngineQueue(), Tries()
        self._round_trip = 0.0
        self._known: Slice | None = None
        """What came at `_known_size`, the window that others are compared with."""
        self._known_size = self._size
        self._best_seconds = inf
        self._noise = 0.0
        self._refusals = Refusals()

    # ---- what comes back

    def answered(self, now: float, seconds: float, tokens: int, in_flight: int) -> None:
        """An answer came that took so long; so many calls are out, this one included."""
        if self._moved_at < 0.0:
            self._moved_at, self._round_trip = now - seconds, seconds
        self._round_trip += (seconds - self._round_trip) / 16.0
        self._refusals.answers += 1
        is_full = in_flight >= FULL * int(self.size)
        self._youth.answered(now, seconds)
        self.patience.answered(now, seconds, in_flight, is_full=is_full)
        self._keep_time(now)
        if self.phase is Phase.RECOVER:
            self._recovered(now)
            return
        if now < self._moved_at + SETTLING * self._round_trip:
            return
        piece = self._slice
        if not piece.answers:
            self._slice_at = now
        piece.add(seconds, tokens, in_flight)
        if tokens:
            self._cost.add(seconds, tokens)
        if piece.answers >= self._least_answers() and now - self._slice_at >= self._least_time():
            self._close(piece, now)

    def _least_answers(self) -> float:
        if self.phase is Phase.CLIMB:
            return max(min(16.0, 4.0 * self.size), self.size) * (3.0 if self._is_doubtful else 1.0)
        return max(40.0, 3.0 * self.size) * min(4.0, max(1.0, (self._noise / FINE) ** 2))

    def _least_time(self) -> float:
        if self.phase is Phase.CLIMB:
            return max(LEAST_SECONDS, 0.5 * self._round_trip)
        return max(5 * LEAST_SECONDS, self._round_trip)

    def _close(self, piece: Slice, now: float) -> None:
        """A slice is complete: decide."""
        self._slice = Slice()
        self._cost.learn()
        seconds = self._cost.seconds_of(piece)
        self._best_seconds = min(self._best_seconds, seconds)
        if self.manners is not None:
            self._mind_others(self.manners, piece, seconds, now)
        if piece.calls < FULL * int(self.size) or self.size < self._size:
            return
        if self.manners is None and self._queue.insists(now) and self._excess_of(piece) < AS_FAST:
            self._queue.doubt(piece.calls, now)
            self._climb(piece, now)
            return
        match self.phase:
            case Phase.CLIMB:
                self._climbed(piece, now)
            case Phase.WIDER:
                self._was_wider(piece, now)
            case Phase.NARROWER:
                self._was_narrower(piece, now)
            case _:
                self._held(piece, now)

    def _climbed(self, piece: Slice, now: float) -> None:
        before, top = self._known, self._top(now)
        gain = 1.0 if before is None else self._cost.gain(before, piece)
        if gain >= self._climbs(now) or piece.latency <= HARMLESS_SECONDS:
            if self._size < top:
                self._climb(piece, now)
            else:
                self._hold(self._size, piece, now)
        elif not self._is_doubtful:
            self._is_doubtful, self._slice = True, piece
        else:
            assert before is not None
            grown = self._cost.rate_of(piece) / max(1e-9, self._cost.rate_of(before))
            knee = 1.05 * self._known_size * max(1.0, grown)
            self._hold(min(self._size, _with_room(knee)), None, now)
            self._decide("throughput does not grow any more", now)

    def _held(self, piece: Slice, now: float) -> None:
        before = self._known
        if before is not None:
            ratio = self._cost.rate_of(piece) / max(1e-9, self._cost.rate_of(before))
            self._noise += 0.3 * (min(0.5, abs(ratio - 1.0)) - self._noise)
            if not 0.75 <= ratio <= 1.33:
                self._tries, before = Tries(), None
        self._known, self._known_size = piece.with_faded(before), self._size
        if self._queue.rules(now):
            return
        top = self._top(now)
        may_widen = self._size + 1.0 <= top and self._excess_of(piece) < CROWDED
        phase = self._tries.next(may_widen=may_widen)
        if phase is Phase.WIDER:
            self.phase = phase
            self._move(min(top, max(self._size + 1.0, WIDER * self._size)), now)
        elif phase is Phase.NARROWER and self._size > 1.0 and piece.latency > HARMLESS_SECONDS:
            self.phase = phase
            self._move(max(1.0, min(self._size - 1.0, NARROWER * self._size)), now)

    def _was_wider(self, piece: Slice, now: float) -> None:
        assert self._known is not None
        gain = self._cost.gain(self._known, piece)
        needed = RISES + self._dearer(piece, now) + 0.5 * self._noise / (WIDER - 1.0)
        if gain >= self._climbs(now) or piece.latency <= HARMLESS_SECONDS:
            self._tries.succeeded(Phase.WIDER)
            self._climb(piece, now)
        elif gain >= needed:
            self._tries.succeeded(Phase.WIDER)
            grown = self._known_size * (self._size / self._known_size) ** min(1.0, 2.0 * gain)
            self._hold(max(self._known_size + 1.0, grown), None, now)
            self._decide("throughput grows with it", now)
        else:
            self._went_back(now)

    def _was_narrower(self, piece: Slice, now: float) -> None:
        assert self._known is not None
        if self._cost.gain(self._known, piece) < FALLS + self._dearer(piece, now):
            self._tries.succeeded(Phase.NARROWER)
            self._hold(min(self._known_size, _with_room(self._size)), None, now)
            self._decide("as much is answered with fewer", now)
            return
        if self._excess_of(piece) > CROWDED:
            self._best_seconds *= 1.5  # nobody crowds it, it has become slower
        self._went_back(now)

    def _went_back(self, now: float) -> None:
        self._tries.failed(self.phase)
        self._hold(self._known_size, self._known, now)

    def _excess_of(self, piece: Slice) -> float:
        """How much longer answers take than at their best: 1 is as long."""
        return self._cost.seconds_of(piece) / max(1e-9, self._best_seconds)

    def _climbs(self, now: float) -> float:
        return EMPTY_CLIMBS if self._queue.is_known_empty(now) else CLIMBS

    def _dearer(self, piece: Slice, now: float) -> float:
        if self._queue.is_known_empty(now):
            return 0.0
        return min(MOST_DEARER, DEARER * max(0.0, self._excess_of(piece) - RELAXED))

    # ---- what is refused

    def refused(self, now: float) -> bool:
        """The engine refused a call. Whether it refuses so many that it should be left alone for a
        moment. A burst cuts the window once in a round trip, and is made up for as soon as it
        ends."""
        round_trip = max(0.25, self._round_trip)
        if not self._refusals.come(self._size, now, round_trip):
            return False
        if now <= self._refusals.cut_at + round_trip:
            return True
        if self.phase in {Phase.CLIMB, Phase.WIDER} and self._known is not None:
            self._refusals.tried(self._size, now)
            self._tries.failed(Phase.WIDER)
            self._hold(self._known_size, self._known, now)
        else:
            self._refusals.cut(self._size, now)
            self.phase, self._known = Phase.RECOVER, None
            self._move(max(1.0, CUT * self._size), now)
        self._decide("the engine refuses calls", now)
        return True

    def timed_out(self, now: float, in_flight: int) -> None:
        """A call was not answered in its time; so many were out, this one included."""
        self.patience.timed_out(now, in_flight)
        self._keep_time(now)

    def _keep_time(self, now: float) -> None:
        """Give as many as are answered in time."""
        before, self.size = self.size, self._given()
        if self.size < 0.9 * before:
            self._decide("calls wait too long for the time they have", now)
        elif self.size > 1.1 * before:
            self._decide("the engine answers well", now)

    def _recovered(self, now: float) -> None:
        """One more with each answer, as far as to what it was."""
        self._size = min(self._refusals.size, self._size + 1.0)
        self.size = self._given()
        if self._size >= self._refusals.size:
            self._hold(self._size, None, now)
            self._decide("the engine answers again", now)

    # ---- what the engine says

    def heard(self, load: Load | None, in_flight: int, now: float) -> None:
        """What the engine told of itself, while so many calls of ours were out; None: nothing."""
        if in_flight:
            self._youth.works(now)
            self.size = self._given()
        if self.manners is not None:
            self.manners.hear(load, in_flight, now)
            self._give(now)
        queue = self._queue
        if load is None or not queue.hear(load, in_flight, now):
            return
        if (excess := queue.excess()) > 0.0:
            share = min(1.0, in_flight / max(1.0, load.running + load.waiting))
            if (size := max(self._least(load, in_flight), in_flight - share * excess)) < self._size:
                self._hold(size, None, now)
                self._decide("calls wait in the engine", now)
        elif in_flight < FULL * int(self.size) or self.size < self._size:
            return
        elif queue.rules(now) and self.phase is not Phase.RECOVER:
            self._hold(min(self._top(now), self._size + queue.step()), self._known, now)
            if not load.waiting:
                self._decide("nothing waits in the engine", now)
        elif self._is_blind() and not load.waiting and load.usage < 0.8:
            self._move(min(BLIND_CEILING, 2.0 * self._size), now)
            self._decide("nothing waits in the engine", now)

    def _least(self, load: Load, in_flight: int) -> float:
        """A queue that others fill does not starve us."""
        has_others = load.running + load.waiting > in_flight + 1.0
        return LEAST if self.manners is None and has_others else 1.0

    def _is_blind(self) -> bool:
        """Whether no answer has told anything yet."""
        return self._known is None and self.phase is Phase.CLIMB and self._size < BLIND_CEILING

    # ---- others

    def _mind_others(self, manners: Manners, piece: Slice, seconds: float, now: float) -> None:
        if self.size <= 1.0 and seconds > self._best_seconds:
            self._best_seconds = seconds  # it cannot be by us
        manners.took(seconds, self._best_seconds, piece.calls, now)
        self._give(now)

    def _give(self, now: float) -> None:
        """Give as much as politeness leaves."""
        before, self.size = self.size, self._given()
        if self.size < 0.9 * before:
            self._decide("others use the engine", now)
        elif self.size > before:
            self._decide("others leave room in the engine", now)

    def _given(self) -> float:
        size = min(self._size, self.patience.most, self._youth.most)
        return size if self.manners is None else min(size, self.manners.most)

    # ---- moving

    def _climb(self, piece: Slice, now: float) -> None:
        """Try twice as many."""
        self.phase, self._known, self._known_size = Phase.CLIMB, piece, self._size
        self._move(min(self._top(now), 2.0 * self._size), now)
        self._decide("throughput grows with it", now)

    def _hold(self, size: float, known: Slice | None, now: float) -> None:
        """Keep to this window, of which that is known."""
        self.phase, self._known, self._known_size = Phase.HOLD, known, size
        self._move(size, now)

    def _move(self, size: float, now: float) -> None:
        self._size = min(size, self.ceiling)
        self.size, self._moved_at = self._given(), now
        self._slice, self._is_doubtful = Slice(), False
        self._cost.learn()

    def _top(self, now: float) -> float:
        """So far it may grow now."""
        return min(self.ceiling, self._refusals.top(now), self.patience.room)

    def _decide(self, why: str, now: float) -> None:
        if self._queue.is_doubted(now):
            why = f"{why}; what the engine tells of its queue is not believed"
        self.decision = Decision(int(self.size), why, now)


def _with_room(knee: float) -> float:
    """A few more than that, so that the engine never waits for us."""
    return 1.06 * knee + 1.0
