"""What an engine's answer says, and why one that came whole is none; read so by tables too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

_ENDINGS: Final = {
    "length": "truncated: the answer is as long as max_tokens allows",
    "model_length": "truncated: the answer is as long as the model's context allows",
    "max_output_tokens": "truncated: the answer is as long as max_output_tokens allows",
    "incomplete": "truncated: the answer is incomplete",
    "content_filter": "refusal: a content filter ended the answer",
}


@dataclass(frozen=True, slots=True)
class Said:
    """The text of an answer, why it ended, and what the model said where it declined."""

    text: str | None = None
    ending: str | None = None
    refusal: str | None = None

    @property
    def spoilt(self) -> str | None:
        """Why this is no answer, in one word and a sentence."""
        if self.refusal:
            return f"refusal: {self.refusal}"
        if (ending := _ENDINGS.get(self.ending or "")) is not None:
            return ending
        if not self.text or not self.text.strip():
            return "empty: the model said nothing"
        return None


def said(body: Any) -> Said:
    """What the decoded body of a chat, a completion or a response says."""
    if not isinstance(body, dict):
        return Said()
    choices = body.get("choices")
    if isinstance(choices, list):
        return _of_choice(choices[0] if choices else None)
    return _of_response(body)


def _of_choice(choice: object) -> Said:
    if not isinstance(choice, dict):
        return Said()
    ending = _word(choice.get("finish_reason"))
    message = choice.get("message")
    if not isinstance(message, dict):
        return Said(_word(choice.get("text")), ending)
    return Said(_text(message.get("content")), ending, _word(message.get("refusal")))


def _of_response(body: dict[str, Any]) -> Said:
    output = body.get("output")
    pieces = [
        piece
        for item in (output if isinstance(output, list) else ())
        if isinstance(item, dict) and item.get("type", "message") == "message"
        for piece in _objects(item.get("content"))
    ]
    whole = _word(body.get("output_text"))
    text = whole if whole is not None else _text(pieces) if pieces else None
    refusal = next(filter(None, (_word(piece.get("refusal")) for piece in pieces)), None)
    details = body.get("incomplete_details")
    reason = _word(details.get("reason")) if isinstance(details, dict) else None
    return Said(text, reason if reason in _ENDINGS else _word(body.get("status")), refusal)


def _text(content: object) -> str | None:
    """A message's text: as it is, or its pieces of text joined; what a model thought is none."""
    if isinstance(content, str) or content is None:
        return content
    if not isinstance(content, list):
        return msgspec.json.encode(content).decode()
    return "".join(filter(None, (_word(piece.get("text")) for piece in _objects(content))))


def _objects(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _word(value: object) -> str | None:
    return value if isinstance(value, str) else None
