"""What the simulated engine does with each call; knows no sockets and no clock.

`Plan` says what is sent and after how long a service; `server.py` carries it out.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import msgspec

from batchmill.engines.sim.answers import CREATED, ENDPOINTS, Answer, Request, digest_of
from batchmill.engines.sim.faults import Fault, asked_for, chance_of, drawn, lognormal
from batchmill.engines.sim.prefixes import PrefixCache, count_tokens
from batchmill.engines.sim.prompts import Complaint, Fields, complaint_about
from batchmill.engines.sim.settings import Settings

_PAGE = b"<html><head><title>%d %s</title></head><body><h1>%d %s</h1></body></html>\n"
_REASONS = {
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    413: b"Content Too Large",
    422: b"Unprocessable Content",
    429: b"Too Many Requests",
    500: b"Internal Server Error",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
}
JSON = b"application/json"
HTML = b"text/html"
TEXT = b"text/plain"


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of a call. `service_seconds` None: it is answered without being served, so
    it takes no place in the batch. `action` is one of `faults.Fault`'s, or `answer`."""

    status: int
    body: bytes
    kind: bytes = JSON
    service_seconds: float | None = None
    action: str = "answer"
    retry_after: float = 0.0


def reason_of(status: int) -> bytes:
    """The reason phrase of a status line."""
    return _REASONS.get(status, b"OK" if status < 300 else b"Other")


class Engine:
    """The simulated engine: its settings, its prefix cache, and how often each body came."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.prefixes = PrefixCache()
        self._seen: Counter[str] = Counter()

    def forget(self) -> None:
        """Begin anew: no prefix is cached and no body was seen."""
        self.prefixes = PrefixCache()
        self._seen.clear()

    def receive(self, path: str, key: str, body: bytes, in_flight: int) -> Plan:
        """Decide what becomes of a call. `in_flight` counts the calls that are here with it."""
        settings = self.settings
        if settings.status:
            return self._page(settings.status)
        if settings.key and key != f"Bearer {settings.key}":
            return self._error(401, "Incorrect API key provided.", code="invalid_api_key")
        if settings.max_in_flight and in_flight > settings.max_in_flight:
            return self._error(429, "Too many calls at once.", code="rate_limit_exceeded")
        digest = digest_of(body)
        before = self._seen[digest]
        self._seen[digest] += 1
        chance = chance_of(settings.seed, "fault", body, before) if settings.rates else 1.0
        fault = asked_for(body, before) or drawn(settings.rates, chance)
        if fault is not None and fault.kind.isdecimal():
            return self._status(int(fault.kind), fault)
        return self._answer(path, body, digest, before, fault)

    def models(self, key: str) -> Plan:
        """The list of models, or why there is none."""
        if self.settings.status:
            return self._page(self.settings.status)
        if self.settings.key and key != f"Bearer {self.settings.key}":
            return self._error(401, "Incorrect API key provided.", code="invalid_api_key")
        cards = [
            {"id": name, "object": "model", "created": CREATED, "owned_by": "batchmill-sim"}
            for name in self.settings.models
        ]
        return Plan(200, msgspec.json.encode({"object": "list", "data": cards}))

    def _answer(
        self, path: str, body: bytes, digest: str, before: int, fault: Fault | None
    ) -> Plan:
        settings = self.settings
        endpoint = ENDPOINTS.get(path)
        if endpoint is None:
            return self._error(404, f"There is no endpoint {path}.")
        try:
            fields: object = msgspec.json.decode(body)
        except (ValueError, RecursionError) as error:
            return self._error(400, f"The body is not valid JSON: {error}")
        if not isinstance(fields, dict):
            return self._error(400, "The body is not a JSON object.")
        if (complaint := complaint_about(fields, endpoint.required)) is not None:
            return self._error(400, complaint.message, complaint)
        model = str(fields.get("model", settings.models[0] if settings.models else "sim"))
        if not settings.any_model and model not in settings.models:
            about = Complaint(f"The model `{model}` does not exist.", "model")
            return self._error(404, about.message, about, code="model_not_found")
        request = self._request(fields, digest, model, fault)
        answer = endpoint.answer(request)
        seconds = self._seconds(request, answer, body, before)
        return self._spoiled(answer, seconds, fault)

    def _request(self, fields: Fields, digest: str, model: str, fault: Fault | None) -> Request:
        settings = self.settings
        size = int(fault.size) if fault is not None and fault.kind == "big" else 0
        request = Request(
            fields, digest, model, 0, size or settings.answer_bytes, settings.non_ascii
        )
        if not settings.prefix_blocks:
            return request
        cached = self.prefixes.look_up(request.prompt, settings.prefix_blocks)
        return Request(fields, digest, model, cached, request.text_bytes, settings.non_ascii)

    def _seconds(self, request: Request, answer: Answer, body: bytes, before: int) -> float:
        """How long the service of this call takes."""
        settings = self.settings
        seconds = settings.latency
        if settings.prefill_per_second:
            read = count_tokens(request.prompt) - request.cached_tokens
            seconds += read / settings.prefill_per_second
        if settings.tokens_per_second:
            seconds += answer.written_tokens / settings.tokens_per_second
        if settings.jitter:
            chance = chance_of(settings.seed, "jitter", body, before)
            seconds *= lognormal(settings.jitter, chance)
        return seconds

    def _spoiled(self, answer: Answer, seconds: float, fault: Fault | None) -> Plan:
        """The answer, or what a fault leaves of it."""
        if self.settings.marked:
            answer.fields["simulated"] = True
        kind = fault.kind if fault is not None else "big"
        match kind:
            case "notjson":
                return Plan(200, b"This is not JSON.", TEXT, seconds)
            case "slow":
                extra = fault.size if fault is not None else 0.0
                return Plan(200, msgspec.json.encode(answer.fields), JSON, seconds + extra)
            case "big":
                return Plan(200, msgspec.json.encode(answer.fields), JSON, seconds)
            case _:
                return Plan(200, msgspec.json.encode(answer.fields), JSON, seconds, kind)

    def _status(self, status: int, fault: Fault) -> Plan:
        if fault.explained:
            about = Complaint(f"This line is refused with {status}, as it asked.", "messages")
            return self._error(status, about.message, about, code="asked_for")
        if status == 500:
            return Plan(500, b"Internal Server Error", TEXT)
        if status in {502, 504}:
            return self._page(status)
        return self._error(status, reason_of(status).decode())

    def _error(
        self, status: int, message: str, about: Complaint | None = None, code: str | None = None
    ) -> Plan:
        error: Fields = {
            "message": message,
            "type": "invalid_request_error" if status < 500 else "server_error",
            "param": about.param if about is not None else None,
            "code": code,
        }
        body: Fields = {"error": error}
        if self.settings.marked:
            body["simulated"] = True
        return Plan(status, msgspec.json.encode(body), retry_after=self._retry_after(status))

    def _page(self, status: int) -> Plan:
        reason = reason_of(status)
        body = _PAGE % (status, reason, status, reason)
        return Plan(status, body, HTML, retry_after=self._retry_after(status))

    def _retry_after(self, status: int) -> float:
        return self.settings.retry_after if status in {429, 503} else 0.0
