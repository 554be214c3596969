"""Who is struck when, and how: drawn from a seed, the same for the same seed. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import count, cycle


class Blow(StrEnum):
    """What is done to a worker."""

    LOST = "lost"
    """kill -9 of it and its parent, as when its machine dies."""
    KILLED = "killed"
    """kill -9 of the process that works; its parent starts another."""
    FROZEN = "frozen"
    """SIGSTOP until its leases are over, then SIGCONT."""
    STOPPED = "stopped"
    """SIGTERM: it drains, and is started again."""


class Outage(StrEnum):
    """What is done to a server."""

    DATABASE_RESTARTS = "the database stops at once and starts again"
    STORE_IS_AWAY = "the object store refuses every connection for 10 s"
    DATABASE_IS_CUT = "connections to the database are cut, and slow afterwards"


_HOW_OFTEN = {Blow.LOST: 3, Blow.KILLED: 3, Blow.FROZEN: 2, Blow.STOPPED: 2}


@dataclass(frozen=True, slots=True)
class Strike:
    """One blow: so many seconds after the start, to the worker of that number."""

    at: float
    worker: int
    blow: Blow


def strikes(seed: int, every_seconds: float, workers: int) -> Iterator[Strike]:
    """Blow after blow, without end, each in the second half of its own `every_seconds`."""
    chance = random.Random(f"strikes {seed}")
    blows, weights = list(_HOW_OFTEN), list(_HOW_OFTEN.values())
    for number in count():
        at = (number + chance.uniform(0.5, 1.0)) * every_seconds
        yield Strike(at, chance.randrange(workers), chance.choices(blows, weights)[0])


def outages(seed: int, every_seconds: float) -> Iterator[tuple[float, Outage]]:
    """One outage after the other, each kind in its turn, without end."""
    chance = random.Random(f"outages {seed}")
    for number, outage in enumerate(cycle(Outage)):
        yield (number + chance.uniform(0.4, 0.8)) * every_seconds, outage
