"""What a request asks, whatever its endpoint: the texts in it, and whether it is well formed.

Pure. Not more is understood than an answer needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

Fields = dict[str, object]
_TEXT_KEYS = ("content", "text", "input", "inputs", "messages", "parts")


@dataclass(frozen=True, slots=True)
class Complaint:
    """Why a request is answered 400."""

    message: str
    param: str


def texts(value: object) -> Iterator[str]:
    """Every text in a prompt, in its order: strings, content parts, messages and lists of them."""
    match value:
        case str():
            yield value
        case list():
            for item in value:
                yield from texts(item)
        case dict():
            for key in _TEXT_KEYS:
                if key in value:
                    yield from texts(value[key])
        case _:
            return


def last_user_text(messages: object) -> str:
    """The text of the last message that a user wrote, or of the last one at all."""
    listed = messages if isinstance(messages, list) else []
    found = [item for item in listed if isinstance(item, dict)]
    users = [item for item in found if item.get("role") == "user"]
    last: object = (users or found)[-1] if found else messages
    return " ".join(texts(last))


def complaint_about(fields: Fields, required: tuple[str, ...]) -> Complaint | None:
    """What is wrong with a request of which one of the required fields must be there."""
    present = next((name for name in required if name in fields), None)
    if required and present is None:
        return Complaint(f"Field required: {required[0]}", required[0])
    messages = fields.get("messages")
    if present == "messages" and (not isinstance(messages, list) or not messages):
        return Complaint("messages must be a list that is not empty", "messages")
    for name in ("max_tokens", "max_completion_tokens", "max_output_tokens", "n"):
        value = fields.get(name)
        if value is not None and (not isinstance(value, int) or value < 1):
            return Complaint(f"{name} must be a number of at least 1", name)
    if fields.get("stream"):
        return Complaint("the simulator does not stream", "stream")
    return None
