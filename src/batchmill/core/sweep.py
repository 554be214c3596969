"""The ready lines of one job and one model, and in which order engines take them.

One engine sweeps them in the order of their prompt prefix, round and round: a shard that is opened
meanwhile puts its lines where they belong, and those the sweep has passed wait for the next round.
So lines with a common prefix go to the engine next to each other, and its prefix cache need hold
few of them at once. Several engines share the sweep in runs: each takes the lines of some prefixes
for itself, cut where neighbours have least in common. Pure but for its own state.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from batchmill.core.gate import Gate
from batchmill.core.slots import Slot
from batchmill.core.work import OpenLine, OpenShard

RUN_LINES = 64
"""So many lines at most an engine, or a slot, takes for itself at once, where several do."""
FEW_LINES = 8
"""So many it takes even where few are left; who then finds none takes them from others."""

_TAKEN = 1024
"""So many places of lines that were taken are kept before they are cut off."""

_NEVER = 2**62

_Place = tuple[bytes, int, OpenLine]
"""A line by its prompt prefix, then its number: no two of a job are equal in both."""
Taker = Gate | Slot
"""An engine, or a slot of one that has a prompt cache of its own."""
_Taker = int
"""Which of them it is; one that is gone may have lent its number to another, which does no harm."""


class Sweep:
    """Ready lines around a circle of prompt prefixes. `lines` is how many there are."""

    __slots__ = (
        "_ahead",
        "_behind",
        "_by_rank",
        "_next",
        "_passed",
        "_runs",
        "_sole",
        "_took",
        "lines",
        "ranked_lines",
    )

    def __init__(self) -> None:
        self.lines = 0
        self.ranked_lines = _NEVER
        """How many there were when `finish_with` was called last, since the last shard came."""
        self._by_rank = False
        """The lines go in the order that it gave them."""
        self._ahead: list[_Place] = []
        self._behind: list[_Place] = []
        self._next = 0
        self._passed: tuple[bytes, int] = (b"", -1)
        """How far this round has come."""
        self._sole: Taker | None = None
        """The only engine that takes lines here, if so."""
        self._runs: dict[_Taker, deque[OpenLine]] = {}
        self._took: set[_Taker] = set()
        """Which engines took lines since the last shard came."""

    def peek(self, taker: Taker) -> OpenLine:
        """The line that this engine would take; there must be one."""
        if taker is self._sole:
            return self._ahead[self._next][2]
        return self._peek_shared(taker)

    def take(self, taker: Taker) -> OpenLine:
        """The line that goes to this engine; it is no longer here. There must be one."""
        self.lines -= 1
        if taker is not self._sole:
            return self._take_shared(taker)
        line = self._ahead[self._next][2]
        self._next += 1
        if self._next >= _TAKEN or self._next == len(self._ahead):
            self._cut_off()
        return line

    def add(self, line: OpenLine) -> None:
        """Put back one line that was tried before: it goes soon, and the sweep goes on from where
        it is."""
        self.lines += 1
        place = (line.prefix, line.number, line)
        if self._by_rank:
            self._ahead.insert(self._next, place)
            return
        self._note_passed()
        insort(self._ahead, place, lo=self._next)

    def merge(self, lines: Iterable[OpenLine]) -> None:
        """Put the lines of a shard in their places."""
        self._note_passed()
        new = sorted((line.prefix, line.number, line) for line in lines)
        self.lines += len(new)
        behind = bisect_left(new, self._passed)
        self._ahead = _merged(self._waiting(), new[behind:])
        self._behind = _merged(self._behind, new[:behind])
        self._next, self.ranked_lines, self._by_rank = 0, _NEVER, False
        self._took.clear()
        self._turn_round()

    def drop(self, shard: OpenShard) -> None:
        """Forget every line of a shard."""
        self._note_passed()
        kept = [place for place in self._ahead[self._next :] if place[2].shard is not shard]
        self._ahead, self._next = kept, 0
        self._behind = [place for place in self._behind if place[2].shard is not shard]
        for engine, run in self._runs.items():
            self._runs[engine] = deque(line for line in run if line.shard is not shard)
        runs = sum(map(len, self._runs.values()))
        self.lines = len(self._ahead) + len(self._behind) + runs
        self._turn_round()

    def finish_with(self, ranks: Callable[[Sequence[OpenLine]], Sequence[int]]) -> None:
        """From now on take the lines by rank, the highest first, and within one as before; until
        more lines come. Where all have the same rank nothing changes."""
        self.ranked_lines = self.lines
        places = [*self._ahead[self._next :], *self._in_runs(self._runs), *self._behind]
        found = ranks([place[2] for place in places])
        if len(set(found)) < 2:
            return
        self._note_passed()
        self._runs.clear()
        order = sorted(zip(found, range(len(places)), strict=True), key=_highest_first)
        self._ahead = [places[at] for _, at in order]
        self._behind, self._next, self._by_rank = [], 0, True

    # ---- where it stands

    def _cut_off(self) -> None:
        """Let go of the places of lines that were taken."""
        self._note_passed()
        del self._ahead[: self._next]
        self._next = 0
        self._turn_round()

    def _note_passed(self) -> None:
        """Remember how far the sweep has come. A line that was put back does not turn it back."""
        if self._next and not self._by_rank:
            prefix, number, _ = self._ahead[self._next - 1]
            self._passed = max(self._passed, (prefix, number))

    def _turn_round(self) -> None:
        """Begin the next round where this one is over."""
        if self._next == len(self._ahead):
            self._ahead, self._behind, self._next = self._behind, [], 0
            self._passed = (b"", -1)

    # ---- several engines

    def _peek_shared(self, taker: Taker) -> OpenLine:
        """The same for one of several engines, or for the first that comes."""
        if self._by_rank or (self._sole is None and not self._runs):
            self._sole = None if self._by_rank else taker
            return self._ahead[self._next][2]
        self._sole = None
        run = self._runs.get(id(taker))
        if not run:
            run = self._runs[id(taker)] = self._new_run()
        return run[0]

    def _take_shared(self, taker: Taker) -> OpenLine:
        line = self._peek_shared(taker)
        if taker is not self._sole and not self._by_rank:
            self._took.add(id(taker))
            return self._runs[id(taker)].popleft()
        self._next += 1
        self._cut_off()
        return line

    def _new_run(self) -> deque[OpenLine]:
        """The next lines for an engine that has none; where all have been dealt, half of what the
        engine with the most of them keeps."""
        left = len(self._ahead) - self._next
        if left:
            most = min(RUN_LINES, max(FEW_LINES, left // (2 * (len(self._runs) + 1))))
            until = self._next + _cut(self._ahead[self._next : self._next + most + 1])
            run = deque(place[2] for place in self._ahead[self._next : until])
            self._next = until
            self._cut_off()
            return run
        longest = max(self._runs.values(), key=len)
        return deque(longest.pop() for _ in range((len(longest) + 1) // 2))

    def _waiting(self) -> list[_Place]:
        """What waits in this round. Runs whose engine took nothing since the last shard are
        given up, and all of them where no two engines did."""
        waiting = self._ahead[self._next :]
        kept = self._took if len(self._took) > 1 else set()
        given_up = [engine for engine in self._runs if engine not in kept]
        waiting += self._in_runs(given_up)
        for engine in given_up:
            del self._runs[engine]
        return waiting

    def _in_runs(self, engines: Iterable[_Taker]) -> list[_Place]:
        """The places of the lines that these engines took for themselves."""
        runs = (self._runs[engine] for engine in engines)
        return [(line.prefix, line.number, line) for run in runs for line in run]


def _cut(places: Sequence[_Place]) -> int:
    """How many of these lines, in their order, make a run: up to the place in the latter half at
    which neighbours have least in common. The last of them shows what would follow."""
    best, at = -1, len(places)
    keys = [int.from_bytes(place[0]) for place in places]
    for n in range((len(keys) + 1) // 2, len(keys)):
        differs = (keys[n - 1] ^ keys[n]).bit_length()
        if differs >= best:
            best, at = differs, n
    return at


def _merged(some: list[_Place], more: list[_Place]) -> list[_Place]:
    some += more
    some.sort()
    return some


def _highest_first(ranked: tuple[int, int]) -> tuple[int, int]:
    return (-ranked[0], ranked[1])
