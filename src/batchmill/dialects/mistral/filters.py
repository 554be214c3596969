"""What a list of jobs is filtered by. Mistral spells a metadata filter as parameters of its own:
every parameter that is none of the known ones names a key."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime

from batchmill.dialects.mistral.wire import MAX_METADATA_PAIRS
from batchmill.web.errors import ErrorDetail, InvalidFields

KNOWN = frozenset(
    {
        "page",
        "page_size",
        "model",
        "agent_id",
        "created_after",
        "created_by_me",
        "status",
        "order_by",
    }
)
_NO_TEXT = re.compile(r"[\x00\ud800-\udfff]")
_BRACKETS = re.compile(r"metadata\[(.+)\]", re.DOTALL)
_PLUS_LOST = re.compile(r"([^ ]*T[^ ]*) (\d\d:?\d\d)")
_LONGEST_MOMENT = 64


def metadata_filters(query: Iterable[tuple[str, str]]) -> dict[str, str] | None:
    """The metadata that jobs must have; None when no job can have it: two values for one key,
    more pairs than a create takes, or what is no text."""
    wanted: dict[str, str] = {}
    for key, value in _pairs(query):
        if wanted.setdefault(key, value) != value or _NO_TEXT.search(key + value):
            return None
    return wanted if len(wanted) <= MAX_METADATA_PAIRS else None


def moment(text: str) -> float:
    """Unix seconds of a time in ISO 8601; without a zone it is UTC. Raises `InvalidFields`.

    A plus that was not encoded arrives as a space, and is understood.
    """
    text = text[:_LONGEST_MOMENT]  # more is no time; nor is what is left of it
    if (lost := _PLUS_LOST.fullmatch(text)) is not None:
        text = f"{lost[1]}+{lost[2]}"
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as e:
        raise InvalidFields(
            [
                ErrorDetail(
                    type="datetime_parsing",
                    loc=["query", "created_after"],
                    msg="Must be a time such as 2026-07-01T12:30:00Z",
                )
            ]
        ) from e


def _pairs(query: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    for key, value in query:
        if key in KNOWN:
            continue
        if (inside := _BRACKETS.fullmatch(key)) is not None:
            yield inside[1], value
        elif key == "metadata" and (mapping := _object(value)) is not None:
            yield from mapping.items()
        else:
            yield key, value


def _object(text: str) -> dict[str, str] | None:
    """A JSON object of strings, if it is one."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    return {key: v if isinstance(v, str) else json.dumps(v) for key, v in value.items()}
