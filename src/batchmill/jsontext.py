"""JSON as text: is it valid, and how to write it as one line of ASCII. Nothing is re-ordered.

Result files are pure ASCII with one JSON value per physical line; both the lines of a job and
the replies of engines are brought into that form here.
"""

from __future__ import annotations

import re
from json.encoder import encode_basestring_ascii

import msgspec

_SKIP = msgspec.json.Decoder(msgspec.Raw)
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
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


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


def without_lone_surrogates(raw: bytes) -> bytes:
    """JSON text in which every escaped lone surrogate is U+FFFD, for strict readers' sake.

    Engines that cut an answer inside an emoji send such escapes. Text without any comes back
    as the same object.
    """
    if b"\\ud" not in raw and b"\\uD" not in raw:
        return raw
    return _SURROGATES.sub(lambda m: m[0] if m.lastindex else rb"\ufffd", raw)


def _escape(text: str) -> str:
    r"""Escape what is not ASCII; the C encoder's other escapes (of `\\` and `"`) are undone."""
    return encode_basestring_ascii(text)[1:-1].replace('\\"', '"').replace("\\\\", "\\")
