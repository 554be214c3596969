"""The lines that are sent and the answer that comes back: the same for every contestant."""

from __future__ import annotations

import json
from pathlib import Path

MODEL = "bench"
ENDPOINT = "/v1/chat/completions"
LINE_BYTES = 500
_PROMPT = "Say in one word whether the customer is content, cross or neither. "


def body(number: int, size_bytes: int = LINE_BYTES) -> bytes:
    """A request body of about that size."""
    request = {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": _PROMPT},
            {"role": "user", "content": f"Note {number:07d}: "},
        ],
        "max_tokens": 16,
        "temperature": 0.0,
    }
    empty = len(json.dumps(request, separators=(",", ":")))
    padding = ("The parcel came late and the box was wet. " * 100)[: max(0, size_bytes - empty)]
    request["messages"][1]["content"] += padding  # type: ignore[index]
    return json.dumps(request, separators=(",", ":")).encode()


def line(number: int, size_bytes: int = LINE_BYTES) -> bytes:
    """One line of a batch file, of about that size with its line break."""
    frame = b'{"custom_id":"line-%07d","body":%s}\n'
    return frame % (number, body(number, size_bytes - len(frame) - 1))


def write_input(path: Path, lines: int, size_bytes: int = LINE_BYTES) -> Path:
    """Write a batch file once; what is there is taken as it is."""
    if not path.exists():
        with path.open("wb") as file:
            file.writelines(line(number, size_bytes) for number in range(lines))
    return path


def answer(content_bytes: int = 150) -> bytes:
    """A chat completion with that much text in it; about 430 bytes with the default."""
    text = ("The customer is cross; the parcel was late and wet. " * (content_bytes // 50 + 1))[
        :content_bytes
    ]
    return json.dumps(
        {
            "id": "chatcmpl-6f1d2c3b4a5968778695a4b3c2d1e0f1",
            "object": "chat.completion",
            "created": 1760000000,
            "model": MODEL,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 96, "completion_tokens": 15, "total_tokens": 111},
        },
        separators=(",", ":"),
    ).encode()
