"""OpenAI's result lines. On the hot path: a few microseconds each, bodies spliced as they are."""

from __future__ import annotations

from hashlib import blake2b

from batchmill.dialects.resultlines import answer_of
from batchmill.jsontext import json_string
from batchmill.model import Fate, Job, JobId, Outcome

_CODES = {Fate.EXPIRED: "batch_expired", Fate.CANCELLED: "batch_cancelled"}
_MESSAGES = {
    Fate.FAILED: "The request failed.",
    Fate.EXPIRED: "This request could not be executed before the completion window expired.",
    Fate.CANCELLED: "This request was not executed because the batch was cancelled.",
}


class OpenAILines:
    """The `LineFormat` of OpenAI: `{"id","custom_id","response","error"}`.

    Exactly one of `response` and `error` is null. What an engine refused has its answer as the
    `response`, in the error file; `error` is for what has no HTTP error of its own.
    """

    def result(self, job: Job, line: int, custom_id: bytes, outcome: Outcome) -> bytes:
        response = error = b"null"
        if _has_response(outcome):
            response = _response(outcome)
        else:
            error = _error(outcome)
        return b'{"id":"%b","custom_id":%b,"response":%b,"error":%b}\n' % (
            _id(job.id, line),
            custom_id,
            response,
            error,
        )

    def copied(self, job: Job, line: int, custom_id: bytes, result: bytes) -> bytes | None:
        answer = answer_of(result)
        if answer is None:
            return None
        return b'{"id":"%b","custom_id":%b%b' % (_id(job.id, line), custom_id, answer)


def _has_response(outcome: Outcome) -> bool:
    if outcome.fate is Fate.SUCCEEDED:
        return True
    return outcome.fate is Fate.FAILED and outcome.status is not None and outcome.status >= 400


def _id(job: JobId, line: int) -> bytes:
    """`batch_req_<32 hex>`, the same whenever the line is written."""
    digest = blake2b(b"%b:%d" % (job.encode(), line), digest_size=16)
    return b"batch_req_" + digest.hexdigest().encode()


def _response(outcome: Outcome) -> bytes:
    return b'{"status_code":%d,"request_id":%b,"body":%b}' % (
        outcome.status or 200,
        json_string(outcome.request_id or ""),
        _refusal(outcome) if outcome.body is None else outcome.body,
    )


def _refusal(outcome: Outcome) -> bytes:
    """The body of an error that came without one."""
    return b'{"error":{"message":%b,"type":%b,"param":null,"code":%b}}' % (
        json_string(outcome.message or _MESSAGES[outcome.fate]),
        b'"server_error"' if (outcome.status or 0) >= 500 else b'"invalid_request_error"',
        b"null" if outcome.code is None else json_string(outcome.code),
    )


def _error(outcome: Outcome) -> bytes:
    return b'{"code":%b,"message":%b}' % (
        json_string(_CODES.get(outcome.fate) or outcome.code or "request_failed"),
        json_string(outcome.message or _MESSAGES[outcome.fate]),
    )
