"""What follows from one reply (core/retry.py): a table."""

from __future__ import annotations

import pytest

from batchmill.calls import (
    Answered,
    Broken,
    Overloaded,
    Refused,
    Reply,
    Unreachable,
)
from batchmill.core.retry import (
    MAX_FAULTS,
    MAX_REFUSALS,
    MAX_STRIKES,
    MAX_STRIKES_ALONE,
    MAX_TIMEOUTS,
    MAX_WAITS_IN_VAIN,
    RETRY_AFTER_LIMIT_SECONDS,
    Again,
    Decision,
    Finish,
    History,
    Scope,
    SetAside,
    decide,
)
from batchmill.model import Fate


def next_step(reply: Reply, history: History, *, answers: int = 0, alone: bool = False) -> Decision:
    return decide(reply, history, answers=answers, alone=alone, jitter=0.5)


def refused(status: int, *, param: str | None = None, body: bytes = b"{}") -> Refused:
    return Refused(status, body, "no", param)


@pytest.mark.parametrize("status", [400, 409, 413, 415, 422, 451])
def test_a_refusal_of_the_line_is_final_at_once(status: int) -> None:
    step = next_step(refused(status), History())
    assert isinstance(step, Finish)
    assert (step.outcome.fate, step.outcome.status) == (Fate.FAILED, status)


@pytest.mark.parametrize("status", [401, 402, 407, 502, 504])
def test_a_fault_of_the_engine_never_fails_a_line(status: int) -> None:
    history = History()
    for answers in range(50):
        step = next_step(refused(status), history, answers=answers)
        assert isinstance(step, SetAside)
        assert step.scope is Scope.ENGINE


@pytest.mark.parametrize("status", [403, 404, 405, 301, 307])
def test_a_missing_model_or_route_sets_only_that_route_aside(status: int) -> None:
    history = History()
    for _ in range(50):
        step = next_step(refused(status), history)
        assert isinstance(step, SetAside)
        assert step.scope is Scope.ROUTE


def test_a_404_about_a_field_of_the_line_is_final() -> None:
    assert isinstance(next_step(refused(404, param="messages.0.file_id"), History()), Finish)


def test_a_404_about_the_model_waits() -> None:
    assert isinstance(next_step(refused(404, param="model"), History()), SetAside)


def test_a_line_that_alone_is_refused_while_others_are_answered_fails_in_the_end() -> None:
    history = History()
    steps = [next_step(refused(404), history, answers=n) for n in range(MAX_REFUSALS + 1)]
    assert all(isinstance(step, SetAside) for step in steps[:-1])
    assert isinstance(steps[-1], Finish)


@pytest.mark.parametrize("status", [429, 503])
def test_an_overloaded_engine_is_tried_again_without_end(status: int) -> None:
    history = History()
    for _ in range(200):
        step = next_step(Overloaded(status, b"null"), history)
        assert isinstance(step, Again)
        assert step.overloaded
        assert step.after_seconds <= 45


def test_retry_after_is_waited_for_at_least() -> None:
    step = next_step(Overloaded(429, b"null", retry_after_seconds=70.0), History())
    assert isinstance(step, Again)
    assert step.after_seconds >= 70.0


def test_no_line_waits_for_a_day_because_an_engine_asks_it_to() -> None:
    step = next_step(Overloaded(429, b"null", retry_after_seconds=86_400.0), History())
    assert isinstance(step, Again)
    assert step.after_seconds == RETRY_AFTER_LIMIT_SECONDS


def test_nothing_sent_sets_the_engine_aside() -> None:
    step = next_step(Unreachable("refused"), History())
    assert isinstance(step, SetAside)
    assert step.scope is Scope.ENGINE


@pytest.mark.parametrize(
    "reply", [refused(500), refused(501), Broken("not_json", "?", 200, b'"<html>"')]
)
def test_a_broken_answer_is_tried_five_times(reply: Reply) -> None:
    history = History()
    steps = [next_step(reply, history) for _ in range(MAX_FAULTS)]
    assert all(isinstance(step, Again) for step in steps[:-1])
    assert isinstance(steps[-1], Finish)


def test_the_same_500_three_times_is_believed_if_the_engine_answered_others_between() -> None:
    history = History()
    assert isinstance(next_step(refused(500, body=b"1"), history, answers=3), Again)
    assert isinstance(next_step(refused(500, body=b"1"), history, answers=4), Again)
    assert isinstance(next_step(refused(500, body=b"1"), history, answers=5), Finish)


def test_the_same_500_is_not_believed_early_while_nobody_is_answered() -> None:
    history = History()
    for _ in range(MAX_FAULTS - 1):
        assert isinstance(next_step(refused(500, body=b"1"), history, answers=3), Again)


def test_a_line_waits_for_longer_while_nobody_is_answered_and_longest_in_an_outage() -> None:
    def seconds(*, answers: int, in_outage: bool) -> float:
        history = History()
        steps = [
            decide(
                refused(500, body=b"%d" % n),
                history,
                answers=n * answers,
                alone=False,
                jitter=0.0,
                in_outage=in_outage,
            )
            for n in range(MAX_FAULTS - 1)
        ]
        return sum(step.after_seconds for step in steps if isinstance(step, Again))

    assert seconds(answers=1, in_outage=False) < 5
    assert seconds(answers=0, in_outage=False) > 10
    assert seconds(answers=0, in_outage=True) > 30


def test_another_500_is_not_believed_early() -> None:
    history = History()
    next_step(refused(500, body=b"1"), history, answers=3)
    assert isinstance(next_step(refused(500, body=b"2"), history, answers=9), Again)


@pytest.mark.parametrize("reply", [Broken("timeout", "late"), refused(408)])
def test_a_timeout_is_final_the_third_time(reply: Reply) -> None:
    history = History()
    steps = [next_step(reply, history) for _ in range(MAX_TIMEOUTS)]
    assert all(isinstance(step, Again) for step in steps[:-1])
    last = steps[-1]
    assert isinstance(last, Finish)
    assert last.outcome.code == "request_timeout"


def test_a_call_that_others_were_ahead_of_counts_as_no_timeout_but_not_for_ever() -> None:
    history = History()
    late = Broken("timeout", "late")
    for _ in range(MAX_WAITS_IN_VAIN):
        step = decide(late, history, answers=0, alone=False, jitter=0.5, crowded=True)
        assert isinstance(step, Again)
    assert history.timeouts == 0
    steps = [
        decide(late, history, answers=0, alone=False, jitter=0.5, crowded=True)
        for _ in range(MAX_TIMEOUTS)
    ]
    assert isinstance(steps[-1], Finish)


def test_a_lost_connection_is_final_only_for_a_line_that_ran_alone() -> None:
    history = History()
    for _ in range(20):
        assert isinstance(next_step(Broken("reset", "lost"), history), Again)
    assert history.must_run_alone
    for _ in range(MAX_STRIKES_ALONE - 1):
        assert isinstance(next_step(Broken("reset", "lost"), history, alone=True), Again)
    step = next_step(Broken("reset", "lost"), history, alone=True)
    assert isinstance(step, Finish)
    assert step.outcome.code == "connection_lost"


def gateway_steps(status: int, history: History, *, was_up: bool) -> list[Decision]:
    """What follows from that status again and again, alone as soon as it has to be."""
    steps: list[Decision] = []
    while len(steps) < 40 and not any(isinstance(step, Finish) for step in steps):
        step = decide(
            refused(status),
            history,
            answers=0,
            alone=history.must_run_alone,
            jitter=0.5,
            was_up=was_up,
        )
        steps.append(step)
    return steps


@pytest.mark.parametrize(("status", "code"), [(502, "bad_gateway"), (504, "gateway_timeout")])
def test_a_line_that_its_proxy_gives_up_on_while_the_engine_is_up_runs_alone_and_fails(
    status: int, code: str
) -> None:
    *steps, last = gateway_steps(status, History(), was_up=True)
    assert len(steps) == MAX_STRIKES + MAX_STRIKES_ALONE - 1
    assert all(isinstance(step, SetAside) for step in steps)
    assert isinstance(last, Finish)
    assert (last.outcome.code, last.outcome.status) == (code, status)


@pytest.mark.parametrize("status", [502, 504])
def test_a_proxy_whose_engine_is_away_fails_no_line(status: int) -> None:
    for strikes in (0, MAX_STRIKES):
        steps = gateway_steps(status, History(strikes=strikes), was_up=False)
        assert all(isinstance(step, SetAside) for step in steps)


def test_a_connection_that_was_stale_is_no_strike_the_first_time() -> None:
    history = History()
    for strikes in range(3):
        assert isinstance(next_step(Broken("stale", "lost"), history), Again)
        assert (history.strikes, history.is_suspect) == (strikes, True)


def test_a_line_whose_connection_was_lost_goes_on_a_fresh_one() -> None:
    history = History()
    assert not history.is_suspect
    next_step(Broken("reset", "lost"), history)
    assert history.is_suspect


def test_a_line_runs_alone_after_three_strikes() -> None:
    history = History()
    for strikes in range(MAX_STRIKES):
        assert history.must_run_alone is (strikes >= MAX_STRIKES)
        next_step(Broken("reset", "lost"), history)
    assert history.must_run_alone


def test_a_reply_over_the_limit_fails_its_line() -> None:
    step = next_step(Broken("too_large", "64 MB"), History())
    assert isinstance(step, Finish)
    assert step.outcome.code == "reply_too_large"


def test_an_answer_is_final() -> None:
    step = next_step(Answered(200, b"{}"), History())
    assert isinstance(step, Finish)
    assert step.outcome.fate is Fate.SUCCEEDED
