"""`grant` rows: what each worker holds of the limits. What is dealt is decided in `dealing.py`.

A worker writes no row but its own, and lets it grow only with the deck in hand: one row that
workers lock in turn. Whoever finds the deck, or a row whose lease ran out, in somebody's hand goes
without until the next beat, so that no beat ever waits for another worker's.
"""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from batchmill.grants import Asks, Grants
from batchmill.ledger.dealing import Dealt, Hand, Lot, deal
from batchmill.ledger.rows import Row, Values, text
from batchmill.ledger.schema import grant
from batchmill.ledger.store import Transaction
from batchmill.model import Owner

_DECK = ""
"""The owner of the row that is locked while a share grows."""

_lots = msgspec.json.Decoder(tuple[Lot, ...])


def renew(tx: Transaction, owner: Owner, asks: Asks) -> Grants | None:
    """Deal anew for this worker and renew what it holds; None where nothing is limited.

    A beat that changes nothing costs two statements, any other at most seven.
    """
    if not asks.demands:
        return None
    dealt = _dealt(tx, owner, asks, all_live=False)
    if not dealt.lacks and _keep(tx, dealt.hand):
        return dealt.grants
    if not _take_deck(tx):
        return dealt.grants if _keep(tx, dealt.hand) else Grants(stock=asks.stock)
    dealt = _dealt(tx, owner, asks, all_live=True)
    tx.run(tx.upsert(grant, ["owner"]), _values(tx, dealt.hand))
    return dealt.grants


def release(tx: Transaction, owner: Owner) -> None:
    """Others may use at once what this worker held."""
    tx.run(sa.delete(grant).where(grant.c.owner == owner))


def release_worker(tx: Transaction, id: str) -> None:
    """Release what every life of a worker held that is known to be gone."""
    its = sa.func.substr(grant.c.owner, 1, len(id) + 1) == f"{id}/"  # in any collation
    tx.run(sa.delete(grant).where(its))


def _dealt(tx: Transaction, owner: Owner, asks: Asks, *, all_live: bool) -> Dealt:
    """Deal out of what the rows say now. With the deck in hand `all_live` are: the rest has been
    deleted."""
    found = tx.all(sa.select(grant).where(grant.c.owner != _DECK).order_by(grant.c.owner))
    live = [_hand(row) for row in found if all_live or not _has_run_out(row, tx)]
    mine = next((hand for hand in live if hand.owner == owner), None)
    others = [hand for hand in live if hand.owner != owner]
    return deal(owner, mine, others, asks, tx.at.tick, may_grow=all_live)


def _keep(tx: Transaction, hand: Hand) -> bool:
    """Renew a row that has not grown; False where it was taken away meanwhile."""
    mine = sa.update(grant).where(grant.c.owner == hand.owner)
    return tx.run(mine.values(_values(tx, hand))) == 1


def _take_deck(tx: Transaction) -> bool:
    """Lock the deck until the transaction ends, and forget workers whose lease has run out;
    False: it is in another's hand. A row that its own worker is renewing just now stays."""
    free = sa.select(grant.c.owner).where(sa.or_(grant.c.owner == _DECK, _over(tx)))
    owners = [row.owner for row in tx.all(free.with_for_update(skip_locked=True))]
    if _DECK not in owners:
        return False
    owners.remove(_DECK)
    tx.each(
        sa.delete(grant).where(grant.c.owner == sa.bindparam("gone")),
        [{"gone": owner} for owner in owners],
    )
    return True


def _over(tx: Transaction) -> sa.ColumnElement[bool]:
    return sa.or_(grant.c.lease_boot != tx.at.boot, grant.c.lease_until <= tx.at.tick)


def _has_run_out(row: Row, tx: Transaction) -> bool:
    return bool(row.lease_boot != tx.at.boot or row.lease_until <= tx.at.tick)


def _hand(row: sa.Row[Any]) -> Hand:
    return Hand(Owner(row.owner), row.version, _lots.decode(row.lots))


def _values(tx: Transaction, hand: Hand) -> Values:
    return {
        "owner": hand.owner,
        "version": hand.version,
        "lots": text(hand.lots),
        "lease_until": tx.at.tick + tx.rules.timing.lease_seconds,
        "lease_boot": tx.at.boot,
    }
