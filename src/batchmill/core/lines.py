r"""Lines as bytes: cutting a file into them, counting them, and opening one to be sent.

A line ends with `\n`; a `\r` before it is white space. Lines of only spaces, tabs and `\r` are
blank and do not count, nor does a BOM at the start of a file. What makes a line good is in
`decode.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from operator import itemgetter, methodcaller

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from batchmill.errors import BlobMissing
from batchmill.jsontext import ascii_line, is_json, json_string, without_lone_surrogates
from batchmill.model import Shard

BLANK = b" \t\r"
BOM = b"\xef\xbb\xbf"
FIRST_LINE_BYTES = 64 * 1024
_BLANK_BYTES = frozenset(BLANK)
_content = methodcaller("strip", BLANK)
_first_byte = itemgetter(0)
_with_break = (1).__add__


@dataclass(frozen=True, slots=True)
class ShardSize:
    """A shard's limits; a single line beyond `size_bytes` is a shard alone."""

    lines: int = 1024
    size_bytes: int = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class LineRules:
    """What this installation takes as input. `can_serve` says of a model's name whether some
    engine, alias or wildcard serves it."""

    can_serve: Callable[[str], bool] = lambda _: True
    max_line_bytes: int = 10_000_000
    max_lines: int = 1_000_000
    shard: ShardSize = field(default_factory=ShardSize)


class Block(Struct, gc=False):
    """Lines that stand one after the other in a file, none of them blank.

    `starts` and `ends` (past the line break) are in bytes, `physicals` 1-based. A line that was
    too long to be held has an empty text.
    """

    texts: list[bytes]
    starts: list[int]
    ends: list[int]
    physicals: list[int]

    def add(self, other: Block) -> None:
        """Append the lines that follow."""
        self.texts += other.texts
        self.starts += other.starts
        self.ends += other.ends
        self.physicals += other.physicals


class Span(Struct, frozen=True, gc=False):
    """A line within a shard's bytes: `data[start:end]` is the line without its line break.

    `local` counts from the shard's first line; `physical` is 1-based in the file.
    """

    local: int
    start: int
    end: int
    physical: int


def spans(data: bytes, shard: Shard) -> list[Span]:
    """The lines of a shard's bytes. No bytes at all give none; else, where there are not as
    many as validation saw, the blob is damaged: `BlobMissing`."""
    found: list[Span] = []
    start = 0
    for physical, raw in enumerate(data.split(b"\n"), shard.first_physical):
        end = start + len(raw)
        if _content(raw):
            found.append(Span(len(found), start, end, physical))
        start = end + 1
    if data and len(found) != shard.lines:
        raise BlobMissing(
            f"Shard {shard.n} had {shard.lines} lines when it was validated and has {len(found)} "
            "now; the input is damaged."
        )
    return found


class Splitter:
    """Cuts one file, fed chunk by chunk, into its lines that are not blank. Never holds more
    than a chunk and a line of `max_line_bytes`."""

    def __init__(self, max_line_bytes: int) -> None:
        self._max_line_bytes = max_line_bytes
        self._opening: bytes | None = b""
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._is_blank = True
        self._at = 0
        self._physical = 1

    def feed(self, chunk: bytes) -> Block:
        """The lines that this chunk completes."""
        if self._opening is not None:
            self._opening, chunk, self._at = _without_bom(self._opening + chunk)
        found = Block([], [], [], [])
        if self._held_bytes > self._max_line_bytes and (cut := chunk.find(b"\n") + 1):
            self._hold(chunk[: cut - 1])
            found = self._long_line(1)
            chunk = chunk[cut:]
        cut = chunk.rfind(b"\n") + 1
        if cut:
            pieces = b"".join((*self._held, chunk[:cut])).split(b"\n")
            pieces.pop()  # what follows the last line break
            self._let_go()
            found.add(self._placed(pieces))
        self._hold(chunk[cut:])
        return found

    def finish(self) -> Block:
        """The last line, if the file does not end with a line break."""
        if self._opening:
            self._hold(self._opening)
        if self._held_bytes > self._max_line_bytes:
            return self._long_line(0)
        found = self._placed([b"".join(self._held)])
        found.ends = [end - 1 for end in found.ends]
        return found

    def _placed(self, pieces: list[bytes]) -> Block:
        """Whole lines with their places."""
        lengths = map(_with_break, map(len, pieces))
        edges = list(accumulate(lengths, initial=self._at))
        physicals = range(self._physical, self._physical + len(pieces))
        self._at = edges[-1]
        self._physical = physicals.stop
        block = Block(pieces, edges[:-1], edges[1:], list(physicals))
        return block if _all_begin(pieces) else _without_blanks(block)

    def _hold(self, piece: bytes) -> None:
        if not piece:
            return
        self._held_bytes += len(piece)
        self._is_blank = self._is_blank and not _content(piece)
        if self._held_bytes <= self._max_line_bytes:
            self._held.append(piece)
        else:
            self._held = []

    def _let_go(self) -> None:
        self._held, self._held_bytes, self._is_blank = [], 0, True

    def _long_line(self, line_break: int) -> Block:
        start, physical, is_blank = self._at, self._physical, self._is_blank
        self._at += self._held_bytes + line_break
        self._physical += 1
        self._let_go()
        block = Block([b""], [start], [self._at], [physical])
        return Block([], [], [], []) if is_blank else block


class LineCounter:
    """Counts the lines of one file, fed chunk by chunk, as `Splitter` finds them, and keeps at
    most 64 KiB of the first one."""

    def __init__(self) -> None:
        self._lines = 0
        self._opening: bytes | None = b""
        self._has_content = False
        self._first = b""
        self._first_is_whole = False

    def feed(self, chunk: bytes) -> None:
        """Take the next chunk."""
        if self._opening is not None:
            self._opening, chunk, _ = _without_bom(self._opening + chunk)
        pieces = chunk.split(b"\n")
        if not self._first_is_whole:
            self._keep_first(pieces)
        rest = pieces.pop()
        if pieces:
            self._lines += len(pieces) if _all_begin(pieces) else _count(pieces)
            self._lines += self._has_content and not _content(pieces[0])
            self._has_content = False
        self._has_content = self._has_content or bool(_content(rest))

    @property
    def lines(self) -> int:
        """How many lines so far, one that has only begun included."""
        return self._lines + (self._has_content or bool(self._opening))

    @property
    def first_is_object(self) -> bool:
        """Whether the first line is a JSON object, as far as its first 64 KiB tell."""
        first = self._first.strip(BLANK)
        if not first.startswith(b"{"):
            return False
        is_cut = len(self._first) >= FIRST_LINE_BYTES
        return is_cut or is_json(without_lone_surrogates(first))

    def _keep_first(self, pieces: list[bytes]) -> None:
        for number, piece in enumerate(pieces):
            if number and self._first:
                self._first_is_whole = True
                return
            if len(self._first) < FIRST_LINE_BYTES:
                self._first = (self._first + piece).lstrip(BLANK)[:FIRST_LINE_BYTES]


def _all_begin(pieces: list[bytes]) -> bool:
    """Whether each begins with what cannot begin a blank line; False says nothing."""
    return all(pieces) and _BLANK_BYTES.isdisjoint(map(_first_byte, pieces))


def _count(pieces: list[bytes]) -> int:
    return sum(map(bool, map(_content, pieces)))


def _without_blanks(block: Block) -> Block:
    kept = [n for n, text in enumerate(block.texts) if _content(text)]
    return Block(
        [block.texts[n] for n in kept],
        [block.starts[n] for n in kept],
        [block.ends[n] for n in kept],
        [block.physicals[n] for n in kept],
    )


def _without_bom(opening: bytes) -> tuple[bytes | None, bytes, int]:
    """The bytes that may still turn out to be a BOM (None: judged), those that follow it, and
    where these begin."""
    if len(opening) < len(BOM) and BOM.startswith(opening):
        return opening, b"", 0
    if opening.startswith(BOM):
        return None, opening[len(BOM) :], len(BOM)
    return None, opening, 0


class _Opened(Struct, gc=False):
    custom_id: Raw
    body: Raw


class _Asked(Struct, gc=False):
    model: str | None = None


class _Asking(Struct, gc=False):
    body: _Asked


class _Named(Struct, gc=False):
    model: Raw | UnsetType = UNSET


_OPENED = msgspec.json.Decoder(_Opened)
_ASKING = msgspec.json.Decoder(_Asking)
_NAMED = msgspec.json.Decoder(_Named)
_FIELDS = msgspec.json.Decoder(dict[str, Raw])
_written = lru_cache(maxsize=256)(json_string)


def open_line(raw: bytes) -> tuple[bytes, bytes]:
    """The custom_id of a valid line as JSON text in ASCII, and its body as it came.

    Escaped lone surrogates in a body are U+FFFD afterwards: engines read no others. Raises
    `ValueError` for bytes that validation cannot have seen.
    """
    try:
        try:
            line = _OPENED.decode(raw)
        except ValueError:
            line = _OPENED.decode(without_lone_surrogates(raw))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    custom_id = bytes(line.custom_id)
    return custom_id if custom_id.isascii() else ascii_line(custom_id), bytes(line.body)


def model_of(raw: bytes) -> str | None:
    """The model that the body of a valid line names, if it does and can be read."""
    for text in (raw, without_lone_surrogates(raw)):
        try:
            return _ASKING.decode(text).body.model
        except (ValueError, RecursionError):
            continue
    return None


def with_model(body: bytes, model: str) -> bytes:
    """The body with that model: changed in its place, or put first where there was none.

    `body` is a valid JSON object; its other members and their order stay as they came.
    """
    wanted = _written(model)
    found = _NAMED.decode(body).model
    if found is UNSET:
        rest = body[body.index(b"{") + 1 :].lstrip()
        return b'{"model":%b%b%b' % (wanted, b"" if rest.startswith(b"}") else b",", rest)
    if bytes(found) == wanted:
        return body
    members = _FIELDS.decode(body)
    members["model"] = Raw(wanted)
    return msgspec.json.encode(members)
