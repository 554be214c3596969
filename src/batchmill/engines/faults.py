"""What an engine's error body says: a message, and the param and code where there are any.

Pure and total: error bodies come as objects of many shapes, strings, `detail` or plain text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgspec

MAX_TEXT_BYTES = 64 * 1024
MAX_MESSAGE = 1_000
_MAX_JSON_BYTES = 1024 * 1024
_MAX_PARAM = 200
_WRAPPERS = ("error", "detail", "message")
_TITLE = re.compile(r"<(title|h1)[^>]{0,200}>([^<]{0,1000})</\1>", re.IGNORECASE)
_TAG = re.compile(r"<[^>]{0,1000}>")


@dataclass(frozen=True, slots=True)
class Fault:
    """An error in an engine's own words; `code` is its code, or else its type."""

    message: str
    param: str | None = None
    code: str | None = None


def fault_of(status: int, raw: bytes) -> Fault:
    """What the body of an error answer says, in at most 1,000 characters."""
    fault = _decoded(raw, status)
    if fault is None:
        fault = Fault(_plain_text(raw))
    message = " ".join(fault.message.split())[:MAX_MESSAGE]
    return Fault(message or f"The engine answered HTTP {status} without a word.", *_short(fault))


def _decoded(raw: bytes, status: int) -> Fault | None:
    if len(raw) > _MAX_JSON_BYTES:
        return None
    try:
        return _fault(msgspec.json.decode(raw), status)
    except (ValueError, RecursionError):
        return None


def _fault(value: object, status: int) -> Fault | None:
    """The fault in a string, an object or a list of them; None where there is none."""
    match value:
        case str():
            return Fault(value)
        case [first, *rest]:
            fault = _fault(first, status)
            if fault is None or not rest:
                return fault
            return Fault(f"{fault.message} (and {len(rest)} more)", fault.param, fault.code)
        case dict():
            return _fault_in(value, status)
        case _:
            return None


def _fault_in(fields: dict[str, object], status: int) -> Fault | None:
    """The fault in `{error: ...}`, `{detail: ...}`, `{message: ...}` or one of FastAPI's
    details; what an inner object leaves open may stand in the outer one."""
    message = fields.get("msg")
    if isinstance(message, str):
        place = _place(fields.get("loc"))
        return Fault(f"{place}: {message}" if place else message, place, _code(fields, status))
    inner = next((fields[name] for name in _WRAPPERS if fields.get(name)), None)
    fault = _fault(inner, status)
    if fault is None:
        return None
    param = fields.get("param")
    return Fault(
        fault.message,
        fault.param or (param if isinstance(param, str) else None),
        fault.code or _code(fields, status),
    )


def _code(fields: dict[str, object], status: int) -> str | None:
    for name in ("code", "type"):
        value = fields.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if isinstance(value, str) and value and value != str(status):
            return value
    return None


def _place(loc: object) -> str | None:
    """`messages.0.role` out of a validation error's `["body", "messages", 0, "role"]`."""
    if not isinstance(loc, list):
        return None
    return ".".join(str(step) for step in loc if step != "body") or None


def _short(fault: Fault) -> tuple[str | None, str | None]:
    param, code = fault.param, fault.code
    return (param[:_MAX_PARAM] if param else None, code[:_MAX_PARAM] if code else None)


def _plain_text(raw: bytes) -> str:
    """The text of a body that is no error object; of a web page its title."""
    text = raw[:MAX_TEXT_BYTES].decode(errors="replace")
    if text.lstrip()[:1] == "<":
        title = _TITLE.search(text)
        return title[2] if title else _TAG.sub(" ", text)
    return text
