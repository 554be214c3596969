"""Checking a file before it is sent anywhere: the same judgement of its lines as validation's
(`decode.py`), without the plans that validation makes meanwhile.

A good line costs about as much as decoding it twice. Memory does not grow with the file but for 8
bytes a line.
"""

from __future__ import annotations

import io
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

import msgspec
from msgspec import Raw, Struct

from batchmill.core.decode import LineForm, custom_id_of, decode, is_plain, shown
from batchmill.core.lines import BLANK, BOM
from batchmill.core.tally import KEPT_ERRORS, repeated
from batchmill.model import LineError

HASHED_AT_ONCE: Final = 200_000
"""How many custom_ids are compared in one pass: what bounds the memory that takes."""
MAX_MODELS: Final = 100
_PASSES: Final = 64


class _Body(Struct, gc=False):
    """What is judged of a body."""

    model: str | None = None
    stream: bool | None = None
    messages_text: Raw = msgspec.field(default=Raw(b""), name="messages")

    @property
    def messages(self) -> Raw | None:
        """An array; `decode` has the word on anything else."""
        return self.messages_text if bytes(self.messages_text).startswith(b"[") else None


class _Line(Struct, gc=False):
    custom_id: str
    body: _Body
    method: str | None = None
    url: str | None = None


_LINE: Final = msgspec.json.Decoder(_Line)
_MEMBERS: Final = msgspec.json.Decoder(dict[str, Raw])


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a line, and what should stand there instead."""

    error: LineError
    found: str
    expected: str


@dataclass(slots=True)
class Checked:
    """A file as far as it was checked; `findings` are the first of `bad` in the file's order."""

    lines: int = 0
    bad: int = 0
    findings: list[Finding] = field(default_factory=list)
    models: set[str] = field(default_factory=set)
    unnamed: int = 0
    """Lines whose body names no model."""


class Checking:
    """One file, fed chunk by chunk and read again where custom_ids may repeat."""

    def __init__(self, form: LineForm, kept: int = KEPT_ERRORS) -> None:
        self._form, self._kept = form, kept
        self._hashes = array("q")
        self._rest: list[bytes] = []
        self._rest_bytes = 0
        self._physical = 1
        self._is_begun = False
        self.checked = Checked()

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the file."""
        if self._rest_bytes > self._form.max_line_bytes and (end := chunk.find(b"\n") + 1):
            self._judge_long_line()
            chunk = chunk[end:]
        if cut := chunk.rfind(b"\n") + 1:
            self._judge(b"".join((*self._rest, chunk[:cut])))
            self._rest, self._rest_bytes = [], 0
        rest = chunk[cut:]
        self._rest_bytes += len(rest)
        if self._rest_bytes <= self._form.max_line_bytes:
            self._rest.append(rest)
        else:
            self._rest = []

    def finish(self) -> None:
        """The file has ended."""
        if self._rest_bytes > self._form.max_line_bytes:
            self._judge_long_line()
        else:
            self._judge(b"".join(self._rest))

    def may_repeat(self) -> frozenset[int]:
        """Hashes that more than one custom_id has."""
        found: set[int] = set()
        passes = min(_PASSES, len(self._hashes) // HASHED_AT_ONCE + 1)
        for remainder in range(passes):
            seen: set[int] = set()
            for each in self._hashes:
                if each % passes == remainder:
                    if each in seen:
                        found.add(each)
                    seen.add(each)
        return frozenset(found)

    def find_repeats(self, chunks: Iterable[bytes], hashes: frozenset[int]) -> None:
        """Read the file once more, for the lines whose custom_id stands on an earlier one."""
        first: dict[str, int] = {}
        for physical, raw in enumerate(_lines(chunks, self._form.max_line_bytes), 1):
            custom_id = custom_id_of(raw) if raw else None
            if custom_id is None or hash(custom_id) not in hashes:
                continue
            earlier = first.setdefault(custom_id, physical)
            if earlier != physical:
                error = repeated(custom_id, f"line {earlier}", physical)
                finding = Finding(
                    error,
                    f"{shown(custom_id)}, as on line {earlier}",
                    "an id that no other line has",
                )
                self._add(finding, 2 * self._kept)
        self.checked.findings.sort(key=lambda each: each.error.line or 0)
        del self.checked.findings[self._kept :]

    def _judge(self, data: bytes) -> None:
        """Whole lines, the last one perhaps without its line break."""
        if not self._is_begun and data:
            self._is_begun, data = True, data.removeprefix(BOM)
        texts = io.BytesIO(data).readlines()
        try:
            lines: list[_Line | None] = list(map(_LINE.decode, texts))
        except (ValueError, RecursionError):
            lines = list(map(_glance, texts))
        if not self._take_all(data, lines):
            for physical, (line, text) in enumerate(zip(lines, texts, strict=True), self._physical):
                self._take(line, text, physical)
        self._physical += len(texts)

    def _take_all(self, data: bytes, lines: list[_Line | None]) -> bool:
        """Count the lines, if there is nothing wrong with any of them."""
        fits, checked = self._form.fits, self.checked
        if len(data) > self._form.max_line_bytes or not is_plain(data, lines):
            return False
        good = [line for line in lines if line is not None and fits(line)]
        if len(good) != len(lines):
            return False
        checked.lines += len(good)
        self._hashes.extend([hash(line.custom_id) for line in good])
        self._note_models({line.body.model for line in good}, len(good))
        return True

    def _take(self, line: _Line | None, text: bytes, physical: int) -> None:
        text = text.removesuffix(b"\n")
        if not text.strip(BLANK):
            return
        self.checked.lines += 1
        is_good = (
            line is not None
            and len(text) <= self._form.max_line_bytes
            and self._form.fits(line)
            and is_plain(text, (line,))
        )
        judged = line if is_good and line is not None else decode(text, self._form, physical)
        if isinstance(judged, LineError):
            self._add(explained(judged, text, self._form), self._kept)
            custom_id = custom_id_of(text)
        else:
            custom_id = judged.custom_id
            self._note_models({judged.body.model or (line and line.body.model) or None}, 1)
        if custom_id is not None:
            self._hashes.append(hash(custom_id))

    def _note_models(self, models: set[str | None], lines: int) -> None:
        if None in models:
            self.checked.unnamed += lines
        named = {model for model in models if model is not None}
        if len(self.checked.models) < MAX_MODELS:
            self.checked.models |= named

    def _judge_long_line(self) -> None:
        error = decode(b"", self._form, self._physical)
        assert isinstance(error, LineError)
        self.checked.lines += 1
        self._add(explained(error, b"", self._form), self._kept)
        self._physical += 1
        self._rest, self._rest_bytes = [], 0

    def _add(self, finding: Finding, most: int) -> None:
        self.checked.bad += 1
        if len(self.checked.findings) < most:
            self.checked.findings.append(finding)


def explained(error: LineError, text: bytes, form: LineForm) -> Finding:
    """The error with what stands in the line, and what should."""
    if error.param is None:
        begins = shown(text.decode(errors="replace").strip()) if text else "a longer line"
        most = f"one JSON object in UTF-8, at most {form.max_line_bytes:,} bytes long"
        return Finding(error, begins, most)
    return Finding(error, _found(text, error.param), _expected(error.param, form))


def _expected(param: str, form: LineForm) -> str:
    return {
        "custom_id": "a string, once in the line and in no other line",
        "method": "'POST'",
        "url": f"'{form.endpoint}'",
        "body": "an object, once in the line",
        "body.model": "the name of a model that is served, a string",
        "body.messages": "an array of messages",
        "body.stream": "false, or nothing",
    }.get(param, "another value")


def _found(text: bytes, param: str) -> str:
    """What stands in that field, as far as it can be read."""
    raw: bytes = text
    for name in param.split("."):
        try:
            raw = bytes(_MEMBERS.decode(raw).get(name, Raw(b"")))
        except (ValueError, RecursionError):
            return "what cannot be read"
    if not raw:
        return "nothing"
    return (
        shown(raw.decode(errors="replace")).strip("'")
        if raw[:1] != b'"'
        else shown(raw[1:-1].decode(errors="replace"))
    )


def _glance(text: bytes) -> _Line | None:
    try:
        return _LINE.decode(text)
    except (ValueError, RecursionError):
        return None


def _lines(chunks: Iterable[bytes], longest: int) -> Iterator[bytes]:
    """Physical lines; one that is too long as nothing."""
    rest = b""
    is_first, is_long = True, False
    for chunk in chunks:
        *whole, last = chunk.split(b"\n")
        for piece in whole:
            line, rest = rest + piece, b""
            yield b"" if is_long else line.removeprefix(BOM if is_first else b"")
            is_first = is_long = False
        rest += last
        if len(rest) > longest:
            rest, is_long = b"", True
    if rest or is_long:
        yield b"" if is_long else rest
