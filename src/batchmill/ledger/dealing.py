"""How the shares of a limit are dealt to workers. Pure.

A worker deals only for itself, out of what all of them hold. What it *holds* is what it may still
be using; it counts against the limit until the worker has said that it uses less, so that nobody
gets what somebody has not come down from yet. A share may shrink at any time; it grows by what
nobody holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from batchmill.grants import Asks, Demand, Grants, Measure, Resource, Share
from batchmill.model import Owner

RESERVED = 0.5
"""So much of what nobody wants is dealt out all the same, so that new work begins at once; the
rest lies ready for whoever wants it first."""
TOLERANCE = 0.01
"""A rate within so much of its target is left as it is."""
TURN_SECONDS = 30.0
"""How long those are served who were first, where there are fewer calls than workers."""


@dataclass(frozen=True, slots=True)
class Lot:
    """What one worker holds of a resource, what it would use, and how much of the held it was
    told: the rest it only may still be using, from before its lease ran out."""

    of: Resource
    held: float
    wants: float
    told: float = 0.0


@dataclass(frozen=True, slots=True)
class Hand:
    """All that one worker holds. `version` is another one whenever a share of it grew."""

    owner: Owner
    version: int = 0
    lots: tuple[Lot, ...] = ()

    def lot(self, of: Resource) -> Lot | None:
        """What it holds of that resource, if it is one that it uses."""
        return next((lot for lot in self.lots if lot.of == of), None)


@dataclass(frozen=True, slots=True)
class Dealt:
    """What a worker holds from now on, what it is told, and whether it should have more."""

    hand: Hand
    grants: Grants
    lacks: bool


def deal(
    owner: Owner,
    mine: Hand | None,
    others: Sequence[Hand],
    asks: Asks,
    tick: float,
    *,
    may_grow: bool,
) -> Dealt:
    """Deal anew for one worker, at that moment of the lease clock. `mine` is None for one that is
    new or whose lease ran out: what it may still be using counts, but none of it is granted.

    Unless it `may_grow` a worker is told at most what it holds.
    """
    heard = mine is None or asks.heard == mine.version
    turn = int(tick // TURN_SECONDS)
    lots: list[Lot] = []
    shares: list[Share] = []
    grows = lacks = False
    for demand in asks.demands:
        lot = None if mine is None else mine.lot(demand.of)
        before = 0.0 if lot is None else lot.told
        held = demand.using if lot is None or heard else max(demand.using, lot.held)
        theirs = [each for hand in others if (each := hand.lot(demand.of)) is not None]
        wanting = {hand.owner: each.wants for hand in others if (each := hand.lot(demand.of))}
        target = targets(demand, wanting | {owner: demand.wants}, turn)[owner]
        free = max(0.0, demand.limit - sum(each.held for each in theirs))
        share = min(target, max(before, free) if may_grow else before)
        lacks = lacks or target > before * (1.0 + TOLERANCE)
        grows = grows or share > min(demand.using, before)
        told = share if heard else max(before, share)
        lots.append(Lot(demand.of, max(held, share), demand.wants, told))
        shares.append(Share(demand.of, share))
    version = 0 if mine is None else mine.version
    if grows:
        version = max(version, asks.heard, int(tick * 1000)) + 1
    hand = Hand(owner, version, tuple(lots))
    return Dealt(hand, Grants(version, tuple(shares), asks.stock), lacks)


def targets(demand: Demand, wants: Mapping[Owner, float], turn: int) -> Mapping[Owner, float]:
    """What each worker should have of a resource in the end: what it wants, all being served
    alike where that is too much. `turn` decides who is served where there are fewer calls than
    workers; it changes now and then, so that each is."""
    whole = demand.of.measure is Measure.CONCURRENCY
    capped = {owner: min(want, demand.limit) for owner, want in wants.items()}
    spare = demand.limit - sum(capped.values())
    if spare < 0:
        return _in_equal_parts(demand.limit, capped, turn, whole=whole)
    reserve = RESERVED * spare / len(capped)
    return {owner: want + (reserve // 1 if whole else reserve) for owner, want in capped.items()}


def _in_equal_parts(
    limit: float, wants: Mapping[Owner, float], turn: int, *, whole: bool
) -> Mapping[Owner, float]:
    """To those who want least what they want, to the others equal parts of what is left."""
    dealt: dict[Owner, float] = {}
    left = limit
    modest = sorted(wants, key=lambda owner: (wants[owner], owner))
    for place, owner in enumerate(modest):
        part = left / (len(modest) - place)
        if wants[owner] > part:
            return dealt | _split(left, sorted(modest[place:]), turn, whole=whole)
        dealt[owner] = wants[owner]
        left -= wants[owner]
    return dealt


def _split(left: float, owners: list[Owner], turn: int, *, whole: bool) -> dict[Owner, float]:
    if not whole:
        return dict.fromkeys(owners, left / len(owners))
    each, more = divmod(int(left), len(owners))
    first = 0 if each else turn % len(owners)
    in_turn = owners[first:] + owners[:first]
    return {owner: float(each + (place < more)) for place, owner in enumerate(in_turn)}
