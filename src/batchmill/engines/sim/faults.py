"""Which fault, if any, strikes a call: the one its text asks for, or one drawn by its rate.

Pure: the draw follows from the seed, the body and how often that body came, so a run can be
repeated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from statistics import NormalDist

STATUSES = frozenset({"400", "401", "403", "404", "413", "422", "429", "500", "502", "503", "504"})
ACTIONS = frozenset({"reset", "hang", "cut", "notjson", "crash", "exit", "big", "slow"})
RATED = (*sorted(STATUSES), "reset", "hang", "cut", "notjson")
_MARK = re.compile(rb"!(fault|status):([a-z0-9]+)(?:=([0-9.]+))?(?:\*([0-9]+))?")
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong: a status, `reset` (the connection, before the answer), `hang` (no answer
    ever), `cut` (half an answer), `notjson`, `crash` (all connections go, and for a second
    nobody listens), `exit` (the process ends), `big` (an answer of `size` bytes) or `slow`
    (one that takes `size` seconds longer)."""

    kind: str
    size: float = 0.0
    explained: bool = False
    """A status with an error that is about the line, as `!status:422` asks for."""


def asked_for(body: bytes, times_before: int) -> Fault | None:
    """The fault that a text in the body asks for.

    `!fault:500*2` strikes the first two calls with that body only; without `*` all of them.
    """
    match = _MARK.search(body)
    if match is None:
        return None
    word, kind, size, times = match[1], match[2].decode(), match[3], match[4]
    if times is not None and times_before >= int(times):
        return None
    if word == b"status" and len(kind) == 3 and kind.isdecimal() and kind >= "200":
        return Fault(kind, explained=True)
    if word == b"fault" and (kind in ACTIONS or kind in STATUSES):
        return Fault(kind, _number(size))
    return None


def drawn(rates: Mapping[str, float], chance: float) -> Fault | None:
    """The fault on which a chance from [0, 1) falls, given how often each strikes."""
    for kind, rate in rates.items():
        if chance < rate:
            return Fault(kind)
        chance -= rate
    return None


def chance_of(seed: int, purpose: str, body: bytes, times_before: int) -> float:
    """A number from [0, 1) that is the same for the same call of every run."""
    key = f"{seed} {purpose} {times_before}".encode()
    return int.from_bytes(blake2b(body, key=key[:64], digest_size=8).digest()) / 2**64


def lognormal(sigma: float, chance: float) -> float:
    """A factor with median 1, spread by sigma."""
    if sigma <= 0.0 or chance <= 0.0:
        return 1.0
    return float(2.718281828459045 ** (sigma * _NORMAL.inv_cdf(chance)))


def _number(text: bytes | None) -> float:
    try:
        return float(text) if text is not None else 0.0
    except ValueError:
        return 0.0
