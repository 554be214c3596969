"""Workers that share limits, without a ledger or an engine: the real dealing, the real keeping, and
time that passes when told. Any of them may hang, die, lose an answer or hear it late."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import inf

from batchmill.core.limits import Limits, Meter
from batchmill.grants import Asks, Grants, Limit
from batchmill.ledger.dealing import Hand, deal
from batchmill.model import Owner

LEASE, BEAT = 15.0, 1.0
MODEL = "m"


@dataclass
class Row:
    hand: Hand
    until: float


@dataclass
class Deck:
    """What `ledger/grants.py` does with its rows, all in one hand."""

    rows: dict[Owner, Row] = field(default_factory=dict)

    def renew(self, owner: Owner, asks: Asks, tick: float, *, may_grow: bool) -> Grants:
        if may_grow:
            self.rows = {name: row for name, row in self.rows.items() if row.until > tick}
        live = {name: row.hand for name, row in self.rows.items() if row.until > tick}
        mine = live.pop(owner, None)
        dealt = deal(owner, mine, list(live.values()), asks, tick, may_grow=may_grow)
        if not may_grow and owner not in self.rows:
            return Grants(stock=asks.stock)
        self.rows[owner] = Row(dealt.hand, tick + LEASE)
        return dealt.grants


@dataclass
class Member:
    """A worker: what it says, hears and has out. Its clock differs from the ledger's by `skew`."""

    owner: Owner
    limits: Limits
    skew: float
    lines: int = 0
    heard: int = 0
    stock: int = 0
    until: float = -inf
    out: int = 0
    said: Asks = field(default_factory=Asks)
    unheard: deque[tuple[Grants, float]] = field(default_factory=deque)
    hangs: bool = False

    @property
    def meter(self) -> Meter:
        return self.limits._meters[0]

    def take_stock(self, now: float) -> None:
        self.stock += 1
        demands = self.limits.demands({MODEL: self.lines}, now + self.skew, self.stock)
        self.said = Asks(tuple(demands), self.heard, self.stock)

    def hear(self, now: float) -> None:
        """Hear the newest answer that has come: those before it are passed over."""
        grants, until = self.unheard.pop()
        self.unheard.clear()
        self.heard, self.until = grants.version, until
        self.limits.hear(grants, until, now + self.skew)

    def send(self, now: float) -> bool:
        at = now + self.skew
        limits = self.limits
        if not self.lines or limits.is_full or not limits.has_room(at):
            return False
        if not limits.admits(MODEL, at):
            return False
        limits.sent(MODEL)
        if self.meter.requests is not None:
            self.meter.requests.spend(1.0)
        self.out += 1
        return True

    def send_all(self, now: float) -> int:
        """Send while it may; how many went."""
        sent = 0
        while self.send(now):
            sent += 1
        return sent

    def take_back(self, calls: int) -> None:
        for _ in range(min(calls, self.out)):
            self.limits.returned(MODEL)
            self.out -= 1

    def fence(self, now: float) -> None:
        """End what is out, as a worker does that could not renew."""
        if now + self.skew >= self.until + 0.9 * BEAT:
            self.take_back(self.out)


class Fleet:
    """All workers of an engine, and the rows they share."""

    def __init__(self, *limits: Limit) -> None:
        self.now = 1000.0
        self.limits = limits
        self.deck = Deck()
        self.members: list[Member] = []
        self._made = 0

    def join(self, skew: float = 0.0, lines: int = 0) -> Member:
        self._made += 1
        owner = Owner(f"w{self._made}/1")
        member = Member(owner, Limits("e", self.limits), skew, lines)
        self.members.append(member)
        return member

    def beat(self, member: Member, *, may_grow: bool = True, answered: bool = True) -> None:
        """Renew with what was said last; the answer is under way, unless it is lost."""
        grants = self.deck.renew(member.owner, member.said, self.now, may_grow=may_grow)
        if answered:
            member.unheard.append((grants, self.now + member.skew + LEASE - BEAT))

    def round(self, member: Member) -> None:
        """A beat as it should be."""
        member.take_stock(self.now)
        self.beat(member)
        member.hear(self.now)

    def die(self, member: Member) -> None:
        self.members.remove(member)

    def leave(self, member: Member) -> None:
        """Drain: what is out has landed, and the shares are given back."""
        member.take_back(member.out)
        self.deck.rows.pop(member.owner, None)
        self.members.remove(member)

    def wake(self, member: Member) -> None:
        """Go on after a while; the engine has answered what was out, if that was long."""
        member.hangs = False
        if self.now + member.skew >= member.until:
            member.take_back(member.out)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for member in self.members:
            if not member.hangs:
                member.fence(self.now)

    @property
    def calls(self) -> float:
        """Calls that are out or may be begun, over all workers."""
        return sum(
            max(float(member.out), member.meter.slots if self._may_send(member) else 0.0)
            for member in self.members
            if not self._is_lost(member)
        )

    @property
    def requests_per_minute(self) -> float:
        """The shares of the rate in force, over all workers."""
        paces = [member.meter.requests for member in self.members if self._may_send(member)]
        return sum(pace.per_minute for pace in paces if pace is not None)

    def _may_send(self, member: Member) -> bool:
        return self.now + member.skew < member.until

    def _is_lost(self, member: Member) -> bool:
        """It hangs for longer than its lease: its calls are the engine's alone."""
        return member.hangs and self.now + member.skew >= member.until + BEAT
