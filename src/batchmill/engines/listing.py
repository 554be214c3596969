"""What a server's answer to `GET /models` says: the names, or why there are none.

Pure. OpenAI's, Mistral's (with aliases) and llama.cpp's lists are read, and bare ones.
"""

from __future__ import annotations

import msgspec

from batchmill.engines.faults import fault_of


def model_names(raw: bytes) -> tuple[str, ...] | None:
    """The served names in their order, aliases after their model; None if it is no such list."""
    try:
        answer: object = msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return None
    if isinstance(answer, dict):
        if "data" not in answer and "models" not in answer:
            return None
        answer = answer.get("data", answer.get("models")) or []
    if not isinstance(answer, list):
        return None
    return tuple(dict.fromkeys(name for card in answer for name in _names(card)))


def refusal(status: int, raw: bytes, *, keyed: bool) -> str:
    """Why an answer that is not 2xx gives no models, for people."""
    said = fault_of(status, raw).message[:200]
    match status:
        case 401 | 403 if keyed:
            return f"it refuses our key (HTTP {status}): {said}"
        case 401 | 403:
            return f"it asks for a key (HTTP {status}) and none is set for it: {said}"
        case 404 | 405:
            return f"it has no list of models (HTTP {status}); its URL should end before /models"
        case _ if 300 <= status < 400:
            return f"it redirects (HTTP {status}), which is never followed; set its final URL"
        case _:
            return f"it answers HTTP {status}: {said}"


def _names(card: object) -> tuple[str, ...]:
    match card:
        case str(name):
            return (name,)
        case {"id": str(name), "aliases": [*aliases]} if name:
            return (name, *(alias for alias in aliases if isinstance(alias, str) and alias))
        case {"id": str(name)} | {"name": str(name)} if name:
            return (name,)
        case _:
            return ()
