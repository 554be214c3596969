"""Which lines of a job ask for what an earlier line asked for already, byte for byte, where the
answer is sure to be the same. What becomes of them is in `duplicates.py`.

Bodies are known by a keyed hash of 128 bits, whose key nobody knows and no two readings share: two
different ones of a million lines look alike once in 10^26 jobs, and nobody can seek them.
"""

from __future__ import annotations

import secrets
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from hashlib import blake2b
from operator import attrgetter

import msgspec
from msgspec import Raw, Struct

from batchmill.core.lines import open_line
from batchmill.core.order import Original
from batchmill.model import Shard

DETERMINISTIC = frozenset(
    {
        "/v1/embeddings",
        "/v1/moderations",
        "/v1/chat/moderations",
        "/v1/classifications",
        "/v1/chat/classifications",
    }
)
"""Endpoints whose answers are not drawn by chance."""
DIGEST_BYTES = 16
_FIRST_SLOTS = 1024
_ABSENT = Raw(b"null")


class _Drawn(Struct, gc=False):
    """What says how an answer is drawn; of any type, since engines judge it, not we."""

    temperature: Raw = _ABSENT
    seed: Raw = _ABSENT
    random_seed: Raw = _ABSENT


_DRAWN = msgspec.json.Decoder(_Drawn)
_NUMBER = msgspec.json.Decoder(float)


def is_deterministic(endpoint: str, body: bytes) -> bool:
    """Whether the same body has the same answer: by its endpoint, or since it asks for the
    temperature 0 or names a seed."""
    if endpoint in DETERMINISTIC:
        return True
    drawn = _DRAWN.decode(body)
    if bytes(drawn.seed) != b"null" or bytes(drawn.random_seed) != b"null":
        return True
    try:
        return _NUMBER.decode(drawn.temperature) == 0.0
    except msgspec.ValidationError:
        return False


def place_of(line: int, shards: Sequence[Shard], n: int, begins: int) -> Original:
    """Where the line of that number stands: in one of these shards, or in shard `n`, which comes
    after them and begins with the line `begins`."""
    if line >= begins:
        return Original(n, line - begins)
    shard = shards[bisect_right(shards, line, key=attrgetter("first_line")) - 1]
    return Original(shard.n, line - shard.first_line)


class Bodies:
    """The deterministic bodies of one job so far, each with the line that had it first, in some 30
    bytes for each different one: a table that is probed, since a dict takes five times as much."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._key = secrets.token_bytes(32)
        self._digests = bytearray()
        self._lines = array("I")
        self._slots = array("I", bytes(4 * _FIRST_SLOTS))
        """One more than a body's number, at or after the place that its digest chooses; 0: free."""

    def first(self, raw: bytes, line: int) -> int | None:
        """The earlier line with the same body as this good one; None where there is none, or where
        its answer is drawn by chance."""
        try:
            _, body = open_line(raw)
            if not is_deterministic(self._endpoint, body):
                return None
        except (ValueError, RecursionError):
            return None
        digest = blake2b(body, key=self._key, digest_size=DIGEST_BYTES).digest()
        slot = self._find(digest)
        if number := self._slots[slot]:
            return self._lines[number - 1]
        self._digests += digest
        self._lines.append(line)
        self._slots[slot] = len(self._lines)
        if 3 * len(self._lines) > 2 * len(self._slots):
            self._grow()
        return None

    def _find(self, digest: bytes) -> int:
        """The slot that holds this digest, or the free one where it belongs."""
        slots, digests = self._slots, self._digests
        mask = len(slots) - 1
        slot = int.from_bytes(digest[:8]) & mask
        while number := slots[slot]:
            if digests.startswith(digest, (number - 1) * DIGEST_BYTES):
                break
            slot = slot + 1 & mask
        return slot

    def _grow(self) -> None:
        self._slots = array("I", bytes(4 * 2 * len(self._slots)))
        for number in range(len(self._lines)):
            start = number * DIGEST_BYTES
            digest = bytes(self._digests[start : start + DIGEST_BYTES])
            self._slots[self._find(digest)] = number + 1
