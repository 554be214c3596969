"""The simulator's answers on every endpoint. Pure: the same request has the same answer.

Each carries a digest of its request, so that a test can tell whose answer it holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

from batchmill.engines.sim.prefixes import count_tokens
from batchmill.engines.sim.prompts import Fields, last_user_text, texts

CREATED = 1_700_000_000
FINGERPRINT = "batchmill-sim"
DEFAULT_TOKENS = 64
_ODD_TEXT = ' é 漢字 😀 \u2028 \x7f " \\ \n'
_EMBEDDING_SIZE = 8
_CATEGORIES = ("hate_and_discrimination", "violence_and_threats", "pii")


@dataclass(frozen=True, slots=True)
class Request:
    """A well-formed request and what its answer has to know."""

    fields: Fields
    digest: str
    model: str
    cached_tokens: int = 0
    text_bytes: int = 0
    odd_text: bool = False

    @property
    def prompt(self) -> str:
        """Every text of the prompt, in its order."""
        return "\n".join(
            text
            for name in (
                "system",
                "instructions",
                "messages",
                "prompt",
                "input",
                "inputs",
                "suffix",
            )
            for text in texts(self.fields.get(name))
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """The body's fields, and how many tokens were written for it."""

    fields: Fields
    written_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How an endpoint is answered; one of `required` must be in the request, if any is named."""

    answer: Callable[[Request], Answer]
    required: tuple[str, ...] = ()


def digest_of(body: bytes) -> str:
    """Eight bytes in hex that tell one request from another."""
    return blake2b(body, digest_size=8).hexdigest()


def written(request: Request, echo: str) -> tuple[str, str, int]:
    """The text of an answer, why it ends, and its tokens: a digest, then an echo."""
    text = f"sim {request.digest}: {echo}"
    if request.odd_text:
        text += _ODD_TEXT
    if request.text_bytes > len(text):
        text += " word" * ((request.text_bytes - len(text)) // 5)
    limit = _limit(request.fields)
    tokens = count_tokens(text)
    if limit is None or tokens <= limit or request.text_bytes:
        return text, "stop", tokens
    kept = max(4 * limit, len(f"sim {request.digest}"))
    return text[:kept], "length", limit


def _limit(fields: Fields) -> int | None:
    for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
        value = fields.get(name)
        if isinstance(value, int):
            return value
    return None


def _usage(request: Request, output_tokens: int) -> Fields:
    prompt_tokens = count_tokens(request.prompt)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": prompt_tokens + output_tokens,
        "prompt_tokens_details": {"cached_tokens": request.cached_tokens},
    }


def _chat(request: Request) -> Answer:
    asked = request.fields.get("messages", request.fields.get("prompt"))
    text, reason, tokens = written(request, last_user_text(asked))
    count = request.fields.get("n")
    choices = [
        {
            "index": n,
            "message": {"role": "assistant", "content": text, "tool_calls": None},
            "finish_reason": reason,
        }
        for n in range(count if isinstance(count, int) else 1)
    ]
    fields: Fields = {
        "id": f"chatcmpl-{request.digest}",
        "object": "chat.completion",
        "created": CREATED,
        "model": request.model,
        "choices": choices,
        "usage": _usage(request, tokens * len(choices)),
        "system_fingerprint": FINGERPRINT,
    }
    return Answer(fields, tokens)


def _completion(request: Request) -> Answer:
    text, reason, tokens = written(request, " ".join(texts(request.fields.get("prompt"))))
    fields: Fields = {
        "id": f"cmpl-{request.digest}",
        "object": "text_completion",
        "created": CREATED,
        "model": request.model,
        "choices": [{"index": 0, "text": text, "finish_reason": reason, "logprobs": None}],
        "usage": _usage(request, tokens),
        "system_fingerprint": FINGERPRINT,
    }
    return Answer(fields, tokens)


def _response(request: Request) -> Answer:
    text, reason, tokens = written(request, last_user_text(request.fields.get("input")))
    read = count_tokens(request.prompt)
    part = {"type": "output_text", "text": text, "annotations": []}
    message = {"type": "message", "id": "msg_sim", "role": "assistant", "status": "completed"}
    fields: Fields = {
        "id": f"resp_{request.digest}",
        "object": "response",
        "created_at": CREATED,
        "model": request.model,
        "status": "completed" if reason == "stop" else "incomplete",
        "output": [{**message, "content": [part]}],
        "usage": {
            "input_tokens": read,
            "input_tokens_details": {"cached_tokens": request.cached_tokens},
            "output_tokens": tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": read + tokens,
        },
    }
    return Answer(fields, tokens)


def _conversation(request: Request) -> Answer:
    text, _, tokens = written(request, last_user_text(request.fields.get("inputs")))
    entry = {"object": "entry", "type": "message.output", "role": "assistant", "content": text}
    fields: Fields = {
        "object": "conversation.response",
        "conversation_id": f"conv_{request.digest}",
        "model": request.model,
        "outputs": [{**entry, "id": f"msg_{request.digest}", "model": request.model}],
        "usage": _usage(request, tokens),
    }
    return Answer(fields, tokens)


def _embeddings(request: Request) -> Answer:
    given = request.fields.get("input", request.fields.get("inputs"))
    inputs = given if isinstance(given, list) and not _is_numbers(given) else [given]
    data = [
        {"object": "embedding", "index": n, "embedding": _vector(repr(one))}
        for n, one in enumerate(inputs)
    ]
    return _listed(request, "list", {"data": data})


def _moderations(request: Request) -> Answer:
    results = [
        {
            "categories": dict.fromkeys(_CATEGORIES, False),
            "category_scores": dict.fromkeys(_CATEGORIES, 0.01),
            "flagged": False,
        }
        for _ in _inputs(request)
    ]
    return _listed(request, None, {"results": results})


def _classifications(request: Request) -> Answer:
    results = [{"sim": {"scores": {"yes": 0.75, "no": 0.25}}} for _ in _inputs(request)]
    return _listed(request, None, {"results": results})


def _ocr(request: Request) -> Answer:
    text, _, tokens = written(request, "a page")
    page = {"index": 0, "markdown": text, "images": [], "dimensions": None}
    fields: Fields = {
        "pages": [page],
        "model": request.model,
        "usage_info": {"pages_processed": 1, "doc_size_bytes": None},
    }
    return Answer(fields, tokens)


def _transcription(request: Request) -> Answer:
    text, _, tokens = written(request, "what was said")
    fields: Fields = {
        "model": request.model,
        "text": text,
        "language": None,
        "segments": [],
        "usage": _usage(request, tokens),
    }
    return Answer(fields, tokens)


def _listed(request: Request, kind: str | None, results: Fields) -> Answer:
    head: Fields = {"id": f"sim-{request.digest}", "model": request.model}
    if kind is not None:
        head["object"] = kind
    return Answer({**head, **results, "usage": _usage(request, 0)})


def _inputs(request: Request) -> list[object]:
    """The inputs of a request that gets one result for each."""
    given = request.fields.get("input", request.fields.get("inputs"))
    nested = isinstance(given, list) and given and isinstance(given[0], dict)
    return given if isinstance(given, list) and not (nested and "role" in given[0]) else [given]


def _is_numbers(value: list[object]) -> bool:
    return bool(value) and isinstance(value[0], int)


def _vector(text: str) -> list[float]:
    raw = blake2b(text.encode("utf-8", "replace"), digest_size=_EMBEDDING_SIZE).digest()
    return [round(byte / 127.5 - 1.0, 6) for byte in raw]


_INPUT = ("input", "inputs")
ENDPOINTS = {
    "/v1/chat/completions": Endpoint(_chat, ("messages",)),
    "/v1/fim/completions": Endpoint(_chat, ("prompt",)),
    "/v1/completions": Endpoint(_completion, ("prompt",)),
    "/v1/responses": Endpoint(_response, ("input",)),
    "/v1/conversations": Endpoint(_conversation, ("inputs",)),
    "/v1/embeddings": Endpoint(_embeddings, _INPUT),
    "/v1/moderations": Endpoint(_moderations, _INPUT),
    "/v1/chat/moderations": Endpoint(_moderations, (*_INPUT, "messages")),
    "/v1/classifications": Endpoint(_classifications, _INPUT),
    "/v1/chat/classifications": Endpoint(_classifications, (*_INPUT, "messages")),
    "/v1/ocr": Endpoint(_ocr, ("document",)),
    "/v1/audio/transcriptions": Endpoint(_transcription, ("file_url", "file_id", "file")),
}
"""Every endpoint that a batch may be for, in either dialect."""
