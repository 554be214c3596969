"""A shard as a worker holds it: its bytes, its lines, and what each has come to.

One event loop owns these; nothing here does I/O. The run of a shard is in `shard.py`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec import Struct

from batchmill.core.retry import History
from batchmill.model import Answer, Job, Part, ShardLease, Verdict


class OpenLine(Struct, eq=False, gc=False):
    """One line of an open shard that has no outcome yet.

    `number` counts from the job's first line, `local` from the shard's. `start` and `end` cut
    the shard's bytes. `model` is the name to send to the engine; empty: the body's own.
    `allowed_tokens` is how long its answer may be; 0: it does not say. `again_at` is when it may
    be tried again; `out` says that it was taken from the pool and is not back.
    """

    shard: OpenShard
    number: int
    local: int
    start: int
    end: int
    model: str
    prefix: bytes = b""
    allowed_tokens: int = 0
    history: History | None = None
    again_at: float = 0.0
    out: bool = False

    @property
    def is_left(self) -> bool:
        """It has no outcome yet, and no call is out for it."""
        return not self.out and not self.shard.settled[self.local]

    @property
    def raw(self) -> bytes:
        """The line's bytes as they stand in the input."""
        return self.shard.data[self.start : self.end]

    def begun_history(self) -> History:
        """The line's history, begun at its first fault."""
        if self.history is None:
            self.history = History()
        return self.history


@dataclass(slots=True, eq=False)
class OpenShard:
    """A leased shard being run.

    `waiting` counts lines without an outcome, `flights` the calls out for it, `uncommitted`
    the outcomes that no published part holds yet, `notes` what is being noted in the ledger. What
    is asked with every line stands in attributes, not properties.
    """

    lease: ShardLease
    data: bytes = b""
    lines: Sequence[OpenLine] = ()
    """Those that had no outcome when it was read."""
    backlog: deque[OpenLine] = field(default_factory=deque)
    settled: bytearray = field(default_factory=bytearray)
    opened: bool = False
    """Its lines have been read: those still to be sent are in the pool."""
    waiting: int = 0
    followers: int = 0
    """How many of those that wait are not to be sent, but get another line's outcome."""
    flights: int = 0
    uncommitted: int = 0
    notes: int = 0
    parts: list[Part] = field(default_factory=list)
    parts_written: int = 0
    answer: Answer = Answer(Verdict.KEEP)
    """What renew said last; `tell` changes it."""
    sends: bool = True
    """Its lines may still be sent."""
    leaves: bool = False
    """This worker lets go of it, though renew says KEEP."""
    wanted: str | None = None
    """The model for which it is let go of."""
    gone: bool = False
    names: dict[str, str] = field(default_factory=dict)
    """The names that its lines ask for, and those that are sent for them."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    job: Job = field(init=False)
    serial: bool = field(init=False)
    """Its owners died over it: one line at a time, each noted before it is sent."""

    def __post_init__(self) -> None:
        self.job = self.lease.job
        self.serial = self.lease.strikes >= 3

    @property
    def is_last(self) -> bool:
        """It is its job's last shard: those before it were claimed before it."""
        shard = self.lease.shard
        return shard.first_line + shard.lines >= self.job.total

    @property
    def is_leaving(self) -> bool:
        """It is to be released once the calls that are out have landed."""
        verdict = self.answer.verdict
        return verdict is Verdict.PAUSE or (self.leaves and verdict is Verdict.KEEP)

    def tell(self, answer: Answer) -> None:
        """Take renew's answer, unless a graver one was given: none but a pause is taken back, and
        only until the shard is released."""
        if _GRAVITY[answer.verdict] > _GRAVITY[self.answer.verdict]:
            self.answer = answer
            self.sends, self.gone = False, answer.verdict is Verdict.GONE
            self.changed()
        elif answer.verdict is Verdict.KEEP and self.answer.verdict is Verdict.PAUSE:
            self.answer = answer
            self.changed()

    def let_go(self, wanted: str | None = None) -> None:
        """Release it for others, once the calls that are out have landed: for those that serve the
        `wanted` model, if one is given."""
        self.leaves, self.sends, self.wanted = True, False, wanted
        self.changed()

    def stay(self) -> None:
        """Let go of it no longer, if it is not released yet."""
        self.leaves, self.wanted = False, None
        self.changed()

    def read_anew(self) -> None:
        """Give its lines the names that engines know now, before any more are sent."""
        self.sends = False
        self.changed()

    def goes_on(self) -> bool:
        """Whether its lines may be sent again, though they were not a moment ago."""
        if self.sends or not self.waiting or self.leaves:
            return False
        self.sends = self.answer.verdict is Verdict.KEEP
        return self.sends

    def models_left(self) -> set[str]:
        """The names to send of the lines that are neither settled nor out."""
        return {line.model for line in self.lines if line.is_left}

    def forget_lines(self) -> None:
        """Its run is over. A line holds its shard, and the collector of garbage does not look at
        lines: a shard that went on holding them would be held for ever."""
        self.lines = ()
        self.backlog.clear()

    def changed(self) -> None:
        """Wake whoever waits for this shard."""
        self._changed.set()

    async def change(self) -> None:
        """Wait until something about this shard changed since the last call returned."""
        await self._changed.wait()
        self._changed.clear()


_GRAVITY = {Verdict.KEEP: 0, Verdict.PAUSE: 1, Verdict.STOP: 2, Verdict.GONE: 3}
