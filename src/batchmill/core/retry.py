"""What follows from one reply: the line is done, tries again, or waits for its engine.

Pure: a table of replies. The counts that it decides by live with the line in `History`; the
engine's own state lives in `gate.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from hashlib import blake2b
from typing import TypeGuard, assert_never

from batchmill.calls import (
    Answered,
    Broken,
    Overloaded,
    Refused,
    Reply,
    Unreachable,
)
from batchmill.model import Fate, Outcome

MAX_FAULTS = 5
"""Attempts at a line that an engine answers with 500 or with no JSON."""
BELIEVED_REPEATS = 2
"""How often the same such answer has to come again, others being answered, to be final early:
a generic text comes back by chance more often than one thinks."""
MAX_TIMEOUTS = 3
MAX_WAITS_IN_VAIN = 5
"""Timeouts that count for nothing, since too many calls were out at the engine."""
MAX_STRIKES = 3
"""Lost connections after which a line runs alone; so it is with a proxy's 502 and 504 while the
engine lives."""
MAX_STRIKES_ALONE = 2
"""More of them, alone, are final: one may be an engine that is restarted just then."""
MAX_REFUSALS = 5
"""Refusals that look like the engine's fault while it answers others on the same route."""
OUTAGE_FAULTS = 8
"""Such answers on end, to all lines of a route together, after which it is an outage: more than one
line alone gets."""
BACKOFF_SECONDS = 0.5
BACKOFF_LIMIT_SECONDS = 30.0
RETRY_AFTER_LIMIT_SECONDS = 120.0
"""So long at most a line waits because an engine asked it to: some ask for a day and are back in
minutes. How much is sent meanwhile is the gate's to decide."""

_ENGINE_FAULTS = frozenset({401, 402, 407})
_GATEWAY_FAULTS = {502: "bad_gateway", 504: "gateway_timeout"}
_ROUTE_FAULTS = frozenset({403, 404, 405})


class Scope(Enum):
    """How much of an engine a fault sets aside."""

    ENGINE = auto()
    ROUTE = auto()
    """One model at one path: other models and endpoints of the engine go on."""


@dataclass(slots=True)
class History:
    """What happened to one line so far under this lease.

    `answers_seen` is how many lines of its route the engine had answered at its last fault, so
    that a second fault can tell whether the engine works for others.
    """

    faults: int = 0
    repeats: int = 0
    timeouts: int = 0
    waits_in_vain: int = 0
    strikes: int = 0
    strikes_alone: int = 0
    is_suspect: bool = False
    """A connection was lost under it: it goes out on a fresh one, whose loss leaves no doubt."""
    waits: int = 0
    refusals: int = 0
    last_fault: bytes | None = None
    """A digest of its body: many lines may wait for long."""
    answers_seen: int = 0
    by_itself: bool = False
    """A call that carried it with others came to nothing: it goes in one of its own."""

    @property
    def must_run_alone(self) -> bool:
        return self.strikes >= MAX_STRIKES

    def strike(self, *, alone: bool) -> bool:
        """Count a call that the engine may have died of; whether that was the last one."""
        self.is_suspect = True
        self.strikes += 1
        self.strikes_alone += alone
        return self.strikes_alone >= MAX_STRIKES_ALONE


@dataclass(frozen=True, slots=True)
class Finish:
    """The line has its outcome."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Again:
    """Try the line again after that many seconds; `overloaded` tells the gate so."""

    after_seconds: float
    overloaded: bool = False


@dataclass(frozen=True, slots=True)
class SetAside:
    """Not the line's fault: set the engine or the route aside; the line goes back and waits."""

    scope: Scope
    reason: str
    after_seconds: float


Decision = Finish | Again | SetAside


def backoff(tries: int, jitter: float) -> float:
    """Seconds to wait before try number `tries` + 1: doubling, at most 30, spread by half."""
    return float(min(BACKOFF_LIMIT_SECONDS, BACKOFF_SECONDS * 2 ** min(tries, 10))) * (0.5 + jitter)


def is_faulty(reply: Reply) -> TypeGuard[Refused | Broken]:
    """Whether it is 500 or the like, or no JSON: the line's fault or the engine's, which only its
    answers to other lines can tell."""
    match reply:
        case Refused(status=status):
            return (status >= 500 or status < 200) and status not in _GATEWAY_FAULTS
        case Broken(kind=kind):
            return kind == "not_json"
        case _:
            return False


def decide(
    reply: Reply,
    history: History,
    *,
    answers: int,
    alone: bool,
    jitter: float,
    in_outage: bool = False,
    was_up: bool = True,
    crowded: bool = False,
) -> Decision:
    """Decide a line's next step and count the reply in its history.

    `answers` is how many lines of this route the engine has answered so far, `alone` whether
    nothing else of ours was in flight at the engine, `jitter` from [0, 1). `in_outage`: the engine
    answers 500 or the like to the whole route. `was_up`: it was not known to be away as the line
    was sent. `crowded`: so much was out that the engine may not have come to this line.
    """
    match reply:
        case Answered(status=status, body=body, request_id=request_id, usage=usage):
            return Finish(Outcome(Fate.SUCCEEDED, status, body, request_id, usage=usage))
        case Overloaded(retry_after_seconds=asked):
            history.waits += 1
            asked = min(asked or 0.0, RETRY_AFTER_LIMIT_SECONDS)
            wait = max(asked, backoff(history.waits - 1, jitter))
            return Again(wait, overloaded=True)
        case Unreachable(message=message):
            return SetAside(Scope.ENGINE, message, backoff(0, jitter))
        case Refused() | Broken() if is_faulty(reply):
            return _faulty(reply, history, answers, jitter, in_outage=in_outage)
        case Refused():
            return _refused(reply, history, answers, jitter, alone=alone, was_up=was_up)
        case Broken():
            return _broken(reply, history, jitter, alone=alone, crowded=crowded)
        case _:
            assert_never(reply)


def _refused(
    reply: Refused, history: History, answers: int, jitter: float, *, alone: bool, was_up: bool
) -> Decision:
    status = reply.status
    if status in _GATEWAY_FAULTS:
        return _gateway_said(reply, history, jitter, alone=alone, was_up=was_up)
    if status == 408:
        return _timed_out(reply.message, history, jitter)
    if status in _ENGINE_FAULTS:
        return SetAside(Scope.ENGINE, _reason(reply), backoff(0, jitter))
    if status in _ROUTE_FAULTS and not _about_the_line(reply):
        return _waits_or_fails(reply, history, answers, jitter)
    if 300 <= status < 400:
        return SetAside(Scope.ROUTE, f"it redirects (HTTP {status}), which is never followed", 1.0)
    return Finish(_failed(reply.status, reply.body, reply.message, reply.code, reply.request_id))


def _gateway_said(
    reply: Refused, history: History, jitter: float, *, alone: bool, was_up: bool
) -> Decision:
    """502 and 504 come from what stands before the engine, and while it is away to all lines. Where
    it was up, by its answers to others or to a probe, the line may be one that kills it, or that
    takes longer than its proxy waits."""
    if was_up and history.strike(alone=alone):
        message = (
            f"The proxy before the engine answered HTTP {reply.status} to this line "
            f"{history.strikes} times, also while it ran alone, and the engine was up in between: "
            f"the line ends it, or takes longer than the proxy waits. It says: {reply.message}"
        )
        code = _GATEWAY_FAULTS[reply.status]
        return Finish(_failed(reply.status, reply.body, message, code, reply.request_id))
    return SetAside(Scope.ENGINE, _reason(reply), backoff(history.strikes, jitter))


def _waits_or_fails(reply: Refused, history: History, answers: int, jitter: float) -> Decision:
    """403 and 404 are the engine's, unless it keeps answering others and refusing this one."""
    if answers > history.answers_seen or history.refusals == 0:
        history.refusals += 1
        history.answers_seen = answers
    if history.refusals > MAX_REFUSALS:
        return Finish(
            _failed(reply.status, reply.body, reply.message, reply.code, reply.request_id)
        )
    return SetAside(Scope.ROUTE, _reason(reply), backoff(history.refusals, jitter))


def _broken(
    reply: Broken, history: History, jitter: float, *, alone: bool, crowded: bool
) -> Decision:
    match reply.kind:
        case "timeout" if crowded and history.waits_in_vain < MAX_WAITS_IN_VAIN:
            history.waits_in_vain += 1
            return Again(backoff(history.waits_in_vain - 1, jitter))
        case "timeout":
            return _timed_out(reply.message, history, jitter)
        case "too_large":
            return Finish(_failed(None, None, reply.message, "reply_too_large"))
        case "stale" if not history.is_suspect:
            history.is_suspect = True
            return Again(backoff(0, jitter))
        case _:
            if history.strike(alone=alone):
                return Finish(_failed(None, None, reply.message, "connection_lost"))
            return Again(backoff(history.strikes - 1, jitter))


def _timed_out(message: str, history: History, jitter: float) -> Decision:
    history.timeouts += 1
    if history.timeouts >= MAX_TIMEOUTS:
        return Finish(_failed(None, None, message, "request_timeout"))
    return Again(backoff(history.timeouts - 1, jitter))


def _faulty(
    reply: Refused | Broken, history: History, answers: int, jitter: float, *, in_outage: bool
) -> Decision:
    """500 and the like: often the user's fault, so the same answer three times is believed when
    the engine has answered somebody else each time in between. Where it has answered nobody it may
    be the engine's: the line waits for longer, and in an outage for longer than most last."""
    knows_better = answers > history.answers_seen
    fault = blake2b(reply.body or b"", digest_size=16).digest()
    again = history.last_fault == fault and knows_better
    history.faults += 1
    history.repeats = history.repeats + 1 if again else 0
    history.last_fault, history.answers_seen = fault, answers
    if history.repeats >= BELIEVED_REPEATS or history.faults >= MAX_FAULTS:
        code = "not_json" if isinstance(reply, Broken) else "engine_error"
        return Finish(_failed(reply.status, reply.body, reply.message, code))
    if history.faults == 1 or knows_better:
        return Again(backoff(history.faults - 1, jitter))
    return Again(backoff(history.faults + (3 if in_outage else 1), jitter))


def _about_the_line(reply: Refused) -> bool:
    return reply.param is not None and reply.param.removeprefix("body.") != "model"


def _reason(reply: Refused) -> str:
    return f"it answers HTTP {reply.status}: {reply.message[:200]}"


def _failed(
    status: int | None,
    body: bytes | None,
    message: str,
    code: str | None,
    request_id: str | None = None,
) -> Outcome:
    return Outcome(Fate.FAILED, status, body, request_id, code=code, message=message)
