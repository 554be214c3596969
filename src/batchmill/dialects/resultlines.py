"""What both dialects' result lines have in common: `{"id","custom_id","response","error"}`, in this
order and without spaces. Pure."""

from __future__ import annotations

_ANSWER = b',"response":'
"""Within a string its quotes would be escaped: the first one is the key."""
_UNANSWERED = b',"response":null,'
_LOST = b'"code":"internal_error"'


def answer_of(result: bytes) -> bytes | None:
    """What follows the custom_id of a result line, with its comma, to the end of the line; None
    where it only says that the result was lost, or is damaged itself."""
    at = result.find(_ANSWER)
    answer = result[at:]
    is_lost = answer.startswith(_UNANSWERED) and _LOST in answer
    return None if at < 0 or is_lost else answer
