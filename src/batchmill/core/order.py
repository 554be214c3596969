"""In which order the lines of a shard are best sent, as validation writes it down for workers.

Sorted by their keys, lines with a long common prompt prefix stand together, so that an engine's
prefix cache hits. A key is eight nested hashes of two bytes: of the prompt up to the first
boundary, up to the second, and so on; boundaries are the ends of messages and fixed lengths
within long ones. The hash is the upper half of Adler-32: a third of CRC-32's cost, and a
collision only puts two prompts side by side that do not belong there. The blob
(`jobs/<job>/order/<n>`) also names the shard's bad lines, and the lines that are the same request
as an earlier one.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple
from zlib import adler32

import msgspec

from batchmill.errors import BlobMissing
from batchmill.model import LineError

LEVELS = 8
KEY_BYTES = 2 * LEVELS
CUTS = (128, 512, 2048, 8192)
"""Boundaries within one text, in bytes. A shared beginning shorter than the first is no more than
a block or two of an engine's cache."""
MAX_EXPECTED = 2**32 - 1

_NO_LEVELS = bytes(KEY_BYTES)
_MAGIC = b"BMO1"
_MAGIC_SAME = b"BMO2"
"""With what comes after the bad lines: for each duplicate its place and its original's."""
_FORMS = {(_MAGIC, False), (_MAGIC_SAME, True)}
_HEADER = struct.Struct(">4sII")


class Original(NamedTuple):
    """Where the line stands whose answer another one gets: its shard, and its place in it."""

    n: int
    local: int


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that validation refused. `custom_id` is its JSON text in ASCII, `b"null"` where it
    has none or shares it with an earlier line: no id stands on two result lines."""

    error: LineError
    custom_id: bytes = b"null"


_BAD = msgspec.msgpack.Decoder(dict[int, BadLine])


@dataclass(slots=True)
class ShardOrder:
    """One entry per line of a shard, counted from its first. Built line by line with `add` and
    `add_bad`, or read back with `decode`."""

    bad: dict[int, BadLine] = field(default_factory=dict)
    same: dict[int, Original] = field(default_factory=dict)
    """The lines that are the same request as an earlier line of the job."""
    _keys: array[int] = field(default_factory=lambda: array("H"))
    _expected: array[int] = field(default_factory=lambda: array("I"))

    def add(self, texts: Sequence[bytes | msgspec.Raw], expected: int) -> None:
        """Append a good line: its prompt as texts in order, and how many tokens of output it
        allows (0: not said)."""
        keys = self._keys
        at = len(keys)
        end = at + LEVELS
        keys.frombytes(_NO_LEVELS)
        self._expected.append(expected if 0 < expected <= MAX_EXPECTED else 0)
        prefix = 1
        for text in texts:
            start = 0
            if len(text) > CUTS[0]:
                data = bytes(text)
                for cut in CUTS if len(data) > CUTS[1] else CUTS[:1]:
                    if at == end or cut >= len(data):
                        break
                    prefix = adler32(data[start:cut], prefix)
                    keys[at] = prefix >> 16
                    at += 1
                    start = cut
                prefix = adler32(data[start:], prefix)
            else:
                prefix = adler32(text, prefix)
            if at == end:
                return
            keys[at] = prefix >> 16
            at += 1

    def add_bad(self, bad: BadLine) -> None:
        """Append a line that validation refused."""
        self.bad[len(self._expected)] = bad
        self._keys.frombytes(_NO_LEVELS)
        self._expected.append(0)

    @property
    def lines(self) -> int:
        return len(self._expected)

    def prefixes(self) -> list[bytes]:
        """The key of each line: 16 bytes that sort like its prompt prefix."""
        keys = _big_endian(self._keys)
        return [keys[at : at + KEY_BYTES] for at in range(0, len(keys), KEY_BYTES)]

    def expected_tokens(self, local: int) -> int:
        """How many tokens of output the line allows at most; 0 where it does not say."""
        return self._expected[local]

    def encode(self) -> bytes:
        """The blob's bytes."""
        bad = msgspec.msgpack.encode(self.bad)
        same = array("I", [n for local, place in self.same.items() for n in (local, *place)])
        header = _HEADER.pack(_MAGIC_SAME if same else _MAGIC, self.lines, len(bad))
        keys, expected = _big_endian(self._keys), _big_endian(self._expected)
        return b"".join((header, keys, expected, bad, _big_endian(same)))

    @classmethod
    def decode(cls, data: bytes) -> ShardOrder:
        """Read the blob's bytes; raises `BlobMissing` where they are damaged."""
        try:
            magic, lines, bad_bytes = _HEADER.unpack_from(data)
            expected_at = _HEADER.size + lines * KEY_BYTES
            bad_at = expected_at + lines * 4
            same_at = bad_at + bad_bytes
            same_bytes = len(data) - same_at
            if (magic, same_bytes > 0) not in _FORMS or same_bytes % 12:
                raise ValueError(f"{len(data)} bytes that begin with {magic!r}")
            return cls(
                _BAD.decode(data[bad_at:same_at]),
                _same(_native("I", data[same_at:])),
                _native("H", data[_HEADER.size : expected_at]),
                _native("I", data[expected_at:bad_at]),
            )
        except (ValueError, struct.error) as error:
            raise BlobMissing(f"A dispatch order is damaged: {error}.") from error


def _same(numbers: array[int]) -> dict[int, Original]:
    return {
        numbers[at]: Original(numbers[at + 1], numbers[at + 2]) for at in range(0, len(numbers), 3)
    }


def _big_endian(numbers: array[int]) -> bytes:
    if sys.byteorder == "little":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


def _native(code: Literal["H", "I"], data: bytes) -> array[int]:
    numbers = array(code, data)
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers
