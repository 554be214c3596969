"""What is kept of a line that did not succeed beside its result line: its code, an example for
people, and whether trying again may help. Pure; costs nothing for lines that succeed."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from batchmill.failures import FailureKind, Failures
from batchmill.model import Fate, Outcome

UNANSWERED = frozenset(
    {"connection_lost", "internal_error", "reply_too_large", "request_timeout", "worker_lost"}
)
"""Failures without an answer that are not the line's fault; every other was found by validation."""

CODE_CHARACTERS = 64
MESSAGE_CHARACTERS = 200
CUSTOM_ID_CHARACTERS = 200

_HOPELESS = frozenset({"connection_lost", "reply_too_large", "worker_lost"})
"""Tried several times already, alone at the end."""
_RETRYABLE_STATUSES = frozenset({401, 402, 403, 407, 408, 409, 425, 429})
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]+")
_KINDS = {Fate.EXPIRED: FailureKind.EXPIRED, Fate.CANCELLED: FailureKind.CANCELLED}


class Failure(Struct, frozen=True, gc=False):
    """One line that did not succeed; `line` counts from the shard's first."""

    line: int
    custom_id: bytes
    outcome: Outcome


def failure_of(line: int, custom_id: bytes, outcome: Outcome) -> Failure:
    """The failure without its body, which may be long and stands in the result line."""
    return Failure(line, custom_id, replace(outcome, body=None) if outcome.body else outcome)


def grouped(failures: Sequence[Failure]) -> tuple[Failures, ...]:
    """The failures by code, each group with its first as the example."""
    groups: dict[tuple[str, FailureKind], list[Failure]] = {}
    for each in failures:
        groups.setdefault((code_of(each.outcome), kind_of(each.outcome)), []).append(each)
    return tuple(
        Failures(
            code,
            kind,
            is_retryable(mine[0].outcome),
            _short(mine[0].outcome.message or "", MESSAGE_CHARACTERS),
            _shown_id(mine[0].custom_id),
            tuple(each.line for each in mine),
        )
        for (code, kind), mine in groups.items()
    )


def merged(found: Sequence[Failures]) -> tuple[Failures, ...]:
    """The failures by code, where those of one line each are given."""
    groups: dict[tuple[str, FailureKind], list[Failures]] = {}
    for each in found:
        groups.setdefault((each.code, each.kind), []).append(each)
    return tuple(
        replace(mine[0], lines=tuple(line for each in mine for line in each.lines))
        for mine in groups.values()
    )


def failures_of_copy(found: Failures, line: int, custom_id: bytes) -> Failures:
    """That a line failed as another one did."""
    return replace(found, lines=(line,), custom_id=_shown_id(custom_id))


def kind_of(outcome: Outcome) -> FailureKind:
    """How a line that did not succeed failed."""
    if outcome.fate in _KINDS:
        return _KINDS[outcome.fate]
    refused = outcome.status is None and outcome.code not in {None, *UNANSWERED}
    return FailureKind.INVALID if refused else FailureKind.FAILED


def code_of(outcome: Outcome) -> str:
    """The code that stands for what went wrong; an engine's answer without one has its status."""
    if outcome.code:
        return _short(outcome.code, CODE_CHARACTERS)
    return "request_failed" if outcome.status is None else f"http_{outcome.status}"


def is_retryable(outcome: Outcome) -> bool:
    """Whether the same line may succeed when it is sent again."""
    if outcome.fate is not Fate.FAILED:
        return True
    if outcome.status is None:
        return outcome.code in UNANSWERED - _HOPELESS
    return not 400 <= outcome.status < 500 or outcome.status in _RETRYABLE_STATUSES


def _short(text: str, characters: int) -> str:
    """The beginning of a text, in characters that every database and terminal takes."""
    text = _UNPRINTABLE.sub(" ", text[: 2 * characters])
    return text if len(text) <= characters else text[: characters - 3] + "..."


def _shown_id(custom_id: bytes) -> str | None:
    """An id as it came; none where it is too long to be shown whole."""
    if len(custom_id) > 6 * CUSTOM_ID_CHARACTERS:
        return None
    text = json.loads(custom_id)
    is_short = isinstance(text, str) and len(text) <= CUSTOM_ID_CHARACTERS
    return text if is_short and "\x00" not in text else None
