"""Mistral's result lines. On the hot path: a few microseconds each, bodies spliced as they are."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

from batchmill.core.failing import UNANSWERED
from batchmill.dialects.resultlines import answer_of
from batchmill.jsontext import json_string
from batchmill.model import Fate, Job, JobId, Outcome

CODES = {Fate.EXPIRED: "timeout_exceeded", Fate.CANCELLED: "cancelled"}
_MESSAGES = {
    Fate.FAILED: "The request failed.",
    Fate.EXPIRED: "The job's time ended before this request was answered.",
    Fate.CANCELLED: "The job was cancelled before this request was answered.",
}


class MistralLines:
    """The `LineFormat` of Mistral: `{"id","custom_id","response","error"}`.

    Exactly one of a success's `error` and a failure's success is there: `error` is null where the
    line succeeded, and an object `{message, type, code, status_code}` where it did not.
    """

    def result(self, job: Job, line: int, custom_id: bytes, outcome: Outcome) -> bytes:
        body = b"null" if outcome.body is None else outcome.body
        if outcome.fate is Fate.SUCCEEDED:
            return (
                b'{"id":"%b","custom_id":%b,"response":{"status_code":%d,"body":%b},"error":null}\n'
                % (_id(job.id, line), custom_id, outcome.status or 200, body)
            )
        response = (
            b"null"
            if outcome.status is None
            else b'{"status_code":%d,"body":%b}' % (outcome.status, body)
        )
        return b'{"id":"%b","custom_id":%b,"response":%b,"error":%b}\n' % (
            _id(job.id, line),
            custom_id,
            response,
            _error(outcome),
        )

    def copied(self, job: Job, line: int, custom_id: bytes, result: bytes) -> bytes | None:
        answer = answer_of(result)
        if answer is None:
            return None
        return b'{"id":"%b","custom_id":%b%b' % (_id(job.id, line), custom_id, answer)


def _id(job: JobId, line: int) -> bytes:
    """`batch-<8 hex of the job>-<1-based line>-<uuid>`, the same whenever the line is written."""
    start, middle = _of_job(job)
    return b"%b%d%b%012x" % (start, line + 1, middle, line)


@lru_cache(maxsize=1024)
def _of_job(job: JobId) -> tuple[bytes, bytes]:
    """What the ids of a job's lines share, before and after their number."""
    digest = blake2b(job.encode(), digest_size=10).hexdigest()
    middle = f"-{digest[:8]}-{digest[8:12]}-8{digest[12:15]}-a{digest[15:18]}-"
    return f"batch-{job[:8]}-".encode(), middle.encode()


def _error(outcome: Outcome) -> bytes:
    code = CODES.get(outcome.fate) or outcome.code or "request_failed"
    return b'{"message":%b,"type":"%b","code":%b,"status_code":%b}' % (
        json_string(outcome.message or _MESSAGES[outcome.fate]),
        _type(outcome),
        json_string(code),
        b"null" if outcome.status is None else b"%d" % outcome.status,
    )


def _type(outcome: Outcome) -> bytes:
    if outcome.fate is not Fate.FAILED:
        return CODES[outcome.fate].encode()
    status = outcome.status
    if status == 429:
        return b"rate_limit_error"
    if status in {401, 403}:
        return b"authentication_error"
    if status is None:
        is_ours_or_engines = outcome.code is None or outcome.code in UNANSWERED
    else:
        is_ours_or_engines = status >= 500 or status < 400
    return b"server_error" if is_ours_or_engines else b"invalid_request_error"
