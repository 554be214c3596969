"""JSON as text: is it valid, what does it hold, and how to write it as one line of ASCII. Nothing
is re-ordered.

Result files are pure ASCII with one JSON value per physical line; both the lines of a job and
the replies of engines are brought into that form here.
"""

from __future__ import annotations

import codecs
import json
import re
from functools import lru_cache
from itertools import product, takewhile
from json.encoder import encode_basestring_ascii
from math import isfinite
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

MOST_MEMBERS = 1_000
REPLACEMENTS = tuple(f"\\u{''.join(digits)}".encode() for digits in product("fF", "fF", "fF", "dD"))
"""The ways to write U+FFFD as an escape, the usual one first."""

_SKIP = msgspec.json.Decoder(Raw)
_PIECE_BYTES = 1024 * 1024
_SPACE = b" \t\r\n"
_SPACES = bytes.maketrans(_SPACE, b" " * len(_SPACE))
_SURROGATES = re.compile(
    rb"(\\\\)|(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)


def is_json(raw: bytes) -> bool:
    """Whether `raw` is exactly one JSON value in UTF-8, and one that strict readers accept.

    Refused are NaN and Infinity, a BOM, escapes of lone surrogates, and nesting beyond what
    the interpreter's recursion limit lets us read (about 1,000 levels).
    """
    try:
        _SKIP.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return is_utf8(raw)


def is_utf8(raw: bytes) -> bool:
    """Whether `raw` decodes as UTF-8. JSON decoders that skip a field do not look."""
    if raw.isascii():
        return True
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for at in range(0, len(raw), _PIECE_BYTES):
            decoder.decode(raw[at : at + _PIECE_BYTES])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def value_of(raw: bytes | Raw) -> Any:
    """What a JSON text says, for people and their programs: any text that `is_json` has a value. A
    number that Python cannot hold (`1e999`, or thousands of digits) is the text of it, and so is
    the whole where it is nested too deeply. Raises `ValueError` for what is no JSON."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        if not is_json(text := bytes(raw)):
            raise ValueError("this is no JSON") from None
    try:
        return json.loads(text, parse_float=_float, parse_int=_int)
    except RecursionError:
        return text.decode()


def _float(text: str) -> float | str:
    value = float(text)
    return value if isfinite(value) else text


def _int(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:
        return text


class TooManyValues(Exception):
    """A JSON object or list has more values than its reader takes; they were not held."""


class _Key(str):
    """A key that is equal to itself alone, so that a dict holds those that are repeated too."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


def members(raw: bytes | Raw, most: int = MOST_MEMBERS) -> list[tuple[str, Raw]]:
    """The members of a JSON object as they stand, repeated ones too, the values as text.

    Raises `TooManyValues`, msgspec's `ValidationError` for what is no object, its `DecodeError` for
    what is no JSON, and `RecursionError`.
    """
    left = most

    def key(_: type, name: str) -> _Key:
        nonlocal left
        left -= 1
        if left < 0:
            raise TooManyValues
        return _Key(name)

    found = msgspec.json.decode(raw, type=dict[_Key, Raw], dec_hook=key)
    return [(str(name), value) for name, value in found.items()]


def items(raw: bytes | Raw, most: int) -> list[Raw]:
    """The values of a JSON list as text. Raises as `members` does."""
    try:
        found = _list_decoder(most).decode(raw)
    except msgspec.ValidationError as error:
        if bytes(memoryview(raw)[:1]) == b"[":
            raise TooManyValues from error
        raise
    return list(takewhile(lambda value: value is not UNSET, msgspec.structs.astuple(found)))


@lru_cache(maxsize=4)
def _list_decoder(most: int) -> msgspec.json.Decoder[Any]:
    """Stops at the first value beyond `most`, where that of a list would hold all to count them."""
    places = [(f"_{place}", Raw | UnsetType, UNSET) for place in range(most)]
    found = msgspec.defstruct("_List", places, array_like=True, forbid_unknown_fields=True)
    return msgspec.json.Decoder(found)


def ascii_line(raw: bytes) -> bytes:
    r"""The same JSON value in ASCII without line breaks; `raw` must be valid (see `is_json`).

    Bytes that already are so come back as they are, outer white space aside. Characters beyond
    ASCII become `\uXXXX`, those beyond the BMP surrogate pairs, and line breaks between tokens
    spaces.
    """
    text = raw.strip(_SPACE)
    if not text.isascii():
        return _escape(text.translate(_SPACES).decode()).encode()
    if b"\n" in text or b"\r" in text:
        return text.translate(_SPACES)
    return text


def json_string(text: str) -> bytes:
    """`text` as a JSON string in ASCII; a lone surrogate becomes U+FFFD."""
    if not text.isascii():
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return encode_basestring_ascii(text).encode()


def without_lone_surrogates(raw: bytes, replacement: bytes = REPLACEMENTS[0]) -> bytes:
    """JSON text in which every escaped lone surrogate is U+FFFD, for strict readers' sake. No byte
    moves.

    Engines that cut an answer inside an emoji send such escapes. Text without any comes back
    as the same object.
    """
    if b"\\ud" not in raw and b"\\uD" not in raw:
        return raw
    mended = bytearray(raw)
    for found in _SURROGATES.finditer(raw):
        if found.lastindex is None:
            mended[found.start() : found.end()] = replacement
    return bytes(mended)


def _escape(text: str) -> str:
    r"""Escape what is not ASCII; the C encoder's other escapes (of `\\` and `"`) are undone."""
    return encode_basestring_ascii(text)[1:-1].replace('\\"', '"').replace("\\\\", "\\")
