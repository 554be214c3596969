"""Asking the server one thing: what is tried again, and how a refusal is told."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Any, Final

import msgspec

from batchmill.client.errors import BY_STATUS, NotBatchmill, NotFound, Refused, Unreachable
from batchmill.client.steps import Clock, Lost, Pause, Reply, Request, Steps

TRIES: Final = 6
FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 8.0
LEAST_SECONDS: Final = 0.1
"""So long a request has at least, however late it is."""
BUSY: Final = frozenset({429, 502, 503, 504})
"""Answers that say to come again."""

_NOT_OURS = "At this address something answers that is not Batchmill (%s). Check the URL."


def ask(request: Request, tries: int = TRIES, until: float = inf) -> Steps[bytes]:
    """The answer's body. A server that is away or busy is asked again, some seconds in all but not
    beyond the moment `until`, one that never answered once more; that may send the request twice.
    Raises `Refused`, `Unreachable`."""
    reply, _ = yield from _tried(request, tries, until)
    return _heard(reply)


def ask_to_delete(request: Request) -> Steps[None]:
    """Have something deleted, as `ask` asks. Where an answer was lost on the way and the thing is
    then not there, it was deleted. Raises `NotFound` where it was not there at first."""
    reply, may_be_done = yield from _tried(request, TRIES, inf)
    try:
        decoded(_heard(reply))
    except NotFound:
        if not may_be_done:
            raise


def _tried(request: Request, tries: int, until: float) -> Steps[tuple[Reply | Lost, bool]]:
    """What came of it in the end, and whether an earlier try may have done what was asked."""
    may_be_done = False
    for attempt in range(tries):
        reply = yield (yield from _in_time(request, until))
        if isinstance(reply, Reply) and reply.status not in BUSY:
            break
        if isinstance(reply, Lost) and not reply.is_known and attempt:
            break
        wait = pause(attempt, reply)
        if attempt + 1 == tries or (until < inf and (yield Clock()) + wait >= until):
            break
        may_be_done = may_be_done or _hides_an_answer(reply)
        yield Pause(wait)
    return reply, may_be_done


def _hides_an_answer(reply: Reply | Lost) -> bool:
    """Whether the server may have acted, unheard: a gateway's 502 says as little as silence. Where
    the server itself says that it is busy, it did nothing."""
    if isinstance(reply, Lost):
        return reply.was_sent
    return reply.status >= 500 and not isinstance(refusal(reply), Refused)


def _heard(reply: Reply | Lost) -> bytes:
    """The body of an answer. Raises `Refused`, `Unreachable`."""
    if isinstance(reply, Lost):
        raise Unreachable(reply.why)
    return accepted(reply)


def _in_time(request: Request, until: float) -> Steps[Request]:
    """The request, which waits no longer than until then."""
    if until == inf:
        return request
    left = until - (yield Clock())
    return replace(request, seconds=max(LEAST_SECONDS, min(request.seconds, left)))


def ask_json(request: Request, tries: int = TRIES, until: float = inf) -> Steps[dict[str, Any]]:
    """The answer's JSON object, as `ask` gets it."""
    return decoded((yield from ask(request, tries, until)))


def listed(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects of an answer that lists some. Raises `NotBatchmill` for one of another shape."""
    found = answer.get("data")
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise NotBatchmill(_NOT_OURS % "its answer lists nothing")
    return found


def decoded(body: bytes) -> dict[str, Any]:
    """The JSON object of an answer. Raises `NotBatchmill` for what is none."""
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        raise NotBatchmill(_NOT_OURS % "its answer is no JSON") from None
    if not isinstance(value, dict):
        raise NotBatchmill(_NOT_OURS % "its answer is no JSON object")
    return value


def ask_once(request: Request) -> Steps[Reply]:
    """The answer as it came, whatever it is. Raises `Unreachable` where there is none."""
    reply: Reply | Lost = yield request
    if isinstance(reply, Lost):
        raise Unreachable(reply.why)
    return reply


def pause(attempt: int, reply: Reply | Lost) -> float:
    """How long to wait after so many tries: what the server says, else longer and longer."""
    longer = float(min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE))
    if isinstance(reply, Reply):
        said = reply.headers.get("retry-after", "")
        if said.isdecimal() and len(said) < 6:
            return max(longer, min(float(said), 60.0))
    return longer


def accepted(reply: Reply) -> bytes:
    """The body of an answer that is none of refusal. Raises `Refused`, `Unreachable`."""
    if 200 <= reply.status < 300:
        return reply.body
    if 300 <= reply.status < 400:
        raise NotBatchmill(_NOT_OURS % f"it answers {reply.status}, which leads elsewhere")
    raise refusal(reply)


def refusal(reply: Reply) -> Refused | Unreachable:
    """The server's refusal as an error; what is no refusal of ours is told so. What stands before
    a server that is away, or busy, says so in words of its own."""
    try:
        told = msgspec.json.decode(reply.body)
        message = told["message"] if isinstance(told["message"], str) else _joined(told)
        code, param = told.get("code"), told.get("param")
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        is_away = reply.status >= 500 or reply.status in BUSY
        return (Unreachable if is_away else NotBatchmill)(_NOT_OURS % f"it answers {reply.status}")
    kind = BY_STATUS.get(reply.status, Refused)
    code = code if isinstance(code, str) else None
    param = param if isinstance(param, str) else None
    return kind(f"{message}{_next_step(reply.status)}", reply.status, code, param)


def _joined(told: dict[str, Any]) -> str:
    details = told.get("detail") or []
    return "; ".join(str(each.get("msg")) for each in details) or "It was refused."


def _next_step(status: int) -> str:
    if status == 401:
        return (
            " Set BATCHMILL_API_KEY to a key that `batchmill keys create` made on the server, and "
            "BATCHMILL_URL to the server."
        )
    return ""
