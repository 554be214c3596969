"""What a complete HTTP answer of an engine means: the one place where replies are classified.

Pure. `transport.py` brings the answers; what follows from a reply is `core/retry.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from email.utils import parsedate_to_datetime
from math import isfinite

import msgspec

from batchmill.calls import Answered, Broken, Overloaded, Refused, Reply
from batchmill.engines.faults import MAX_TEXT_BYTES, fault_of
from batchmill.jsontext import ascii_line, is_json, json_string, without_lone_surrogates
from batchmill.usage import Usage

MAX_ERROR_BYTES = 1024 * 1024
"""An error body of more is kept as the beginning of its text."""
MAX_RETRY_AFTER_SECONDS = 86_400.0
_MAX_TOKENS = 2**40
_MAX_REQUEST_ID = 256

Header = Callable[[str], str | None]
"""The value of a header by its lower-case name."""


class _Details(msgspec.Struct, gc=False):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Counts(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    input_tokens: int | None = None
    completion_tokens: int | None = None
    output_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None


class _Body(msgspec.Struct, gc=False):
    usage: _Counts | None = None


class _Loose(msgspec.Struct, gc=False):
    usage: msgspec.Raw = msgspec.Raw(b"null")


_BODY = msgspec.json.Decoder(_Body)
_LOOSE = msgspec.json.Decoder(_Loose)
_NO_COUNTS = _Counts()
_NO_DETAILS = _Details()


def classify(status: int, header: Header, raw: bytes, *, now: float) -> Reply:
    """The reply that a complete HTTP answer is; `now` is wall time, for dates in Retry-After."""
    if 200 <= status < 300:
        return _answered(status, header, raw)
    if status in {429, 503}:
        return Overloaded(status, error_body(raw), retry_after_seconds(header, now=now))
    fault, body = fault_of(status, raw), error_body(raw)
    request_id, size_bytes = _request_id(header), len(body)
    return Refused(status, body, fault.message, fault.param, fault.code, request_id, size_bytes)


def usage_of(body: bytes) -> Usage:
    """The token counts in an answer's body; what is missing or makes no sense counts zero."""
    try:
        return _usage(_BODY.decode(body).usage)
    except (msgspec.DecodeError, RecursionError):
        return _loose_usage(body)


def error_body(raw: bytes) -> bytes:
    """One JSON value in ASCII for any bytes: themselves, or else a JSON string of their text,
    at most 64 KiB of it."""
    if len(raw) <= MAX_ERROR_BYTES and is_json(raw):
        return ascii_line(raw)
    return json_string(raw[:MAX_TEXT_BYTES].decode(errors="replace"))


def retry_after_seconds(header: Header, *, now: float) -> float | None:
    """How long the engine asks us to wait, at most a day; None if it does not say."""
    millis, wait = header("retry-after-ms"), header("retry-after")
    seconds = None if millis is None else _number(millis, 0.001)
    if seconds is None and wait is not None:
        seconds = _number(wait, 1.0)
        if seconds is None:
            seconds = _until(wait, now)
    return None if seconds is None else min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)


def _answered(status: int, header: Header, raw: bytes) -> Answered | Broken:
    """One decoding checks the JSON and finds the usage; only odd answers are looked at twice."""
    try:
        usage = _usage(_BODY.decode(raw).usage)
        body = ascii_line(raw)
    except (ValueError, RecursionError):
        mended = without_lone_surrogates(raw)
        if not is_json(mended):
            return _not_json(status, raw)
        usage, body = usage_of(mended), ascii_line(mended)
    return Answered(status, body, _request_id(header), usage, len(body))


def _not_json(status: int, raw: bytes) -> Broken:
    if raw.strip():
        message = f"The engine answered HTTP {status} with a body that is not valid JSON."
    else:
        message = f"The engine answered HTTP {status} with an empty body."
    body = error_body(raw)
    return Broken("not_json", message, status, body, len(body))


def _usage(counts: _Counts | None) -> Usage:
    if counts is None:
        return Usage()
    read = counts.prompt_tokens_details or counts.input_tokens_details or _NO_DETAILS
    written = counts.completion_tokens_details or counts.output_tokens_details or _NO_DETAILS
    return Usage(
        _count(counts.prompt_tokens or counts.input_tokens),
        _count(counts.completion_tokens or counts.output_tokens),
        _count(read.cached_tokens),
        _count(written.reasoning_tokens),
    )


def _count(value: int | None) -> int:
    return value if value is not None and 0 <= value <= _MAX_TOKENS else 0


def _loose_usage(body: bytes) -> Usage:
    """The same from a usage in which some fields are not what they should be."""
    try:
        usage: object = msgspec.json.decode(_LOOSE.decode(body).usage)
    except (ValueError, RecursionError):
        return Usage()
    if not isinstance(usage, dict):
        return Usage()
    return _usage(
        _Counts(
            _tokens(usage, "prompt_tokens"),
            _tokens(usage, "input_tokens"),
            _tokens(usage, "completion_tokens"),
            _tokens(usage, "output_tokens"),
            *(
                _details(usage.get(f"{side}_tokens_details"))
                for side in ("prompt", "input", "completion", "output")
            ),
        )
    )


def _details(value: object) -> _Details | None:
    if not isinstance(value, dict):
        return None
    return _Details(_tokens(value, "cached_tokens"), _tokens(value, "reasoning_tokens"))


def _tokens(fields: dict[str, object], name: str) -> int | None:
    value = fields.get(name)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _request_id(header: Header) -> str | None:
    value = header("x-request-id")
    return value[:_MAX_REQUEST_ID] if value else None


def _number(text: str, scale: float) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value * scale if isfinite(value) else None


def _until(date: str, now: float) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() - now
    except (ValueError, OverflowError):
        return None
