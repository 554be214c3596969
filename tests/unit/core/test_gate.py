"""Admission to an engine (core/gate.py), time given by hand."""

from __future__ import annotations

from batchmill.core.gate import ASIDE_SECONDS, OUTAGE_TRIAL_SECONDS, Gate
from batchmill.core.retry import OUTAGE_FAULTS, Scope
from batchmill.core.window import Window
from batchmill.model import WaitingReason

CHAT = ("/v1/chat/completions", "m")
OCR = ("/v1/ocr", "m")


def test_a_gate_admits_up_to_its_concurrency() -> None:
    gate = Gate(2)
    gate.sent(CHAT)
    assert gate.has_room(0.0)
    gate.sent(CHAT)
    assert not gate.has_room(0.0)
    gate.returned(CHAT)
    assert gate.has_room(0.0)


def test_an_engine_set_aside_lets_one_trial_through_when_its_time_has_come() -> None:
    gate = Gate(8)
    gate.set_aside(Scope.ENGINE, CHAT, "down", sent_at=0.0, now=10.0)
    assert not gate.admits(CHAT, 10.1)
    assert gate.admits(OCR, 10.0 + ASIDE_SECONDS)
    gate.sent(OCR)
    assert not gate.admits(CHAT, 10.0 + ASIDE_SECONDS)
    gate.returned(OCR)
    gate.answered(OCR, well=True)
    assert gate.admits(CHAT, 10.0 + ASIDE_SECONDS)


def test_a_route_set_aside_leaves_the_other_routes_open() -> None:
    gate = Gate(8)
    gate.set_aside(Scope.ROUTE, OCR, "404", sent_at=0.0, now=0.0)
    assert gate.admits(CHAT, 0.0)
    assert not gate.admits(OCR, 0.0)
    assert gate.blocked(OCR, 0.0) is WaitingReason.MODEL_NOT_SERVED
    assert gate.blocked(CHAT, 0.0) is None


def test_what_is_known_of_a_route_that_nobody_needs_is_forgotten() -> None:
    gate = Gate(8)
    gate.answered(CHAT, well=True)
    gate.answered(OCR, well=True)
    gate.set_aside(Scope.ROUTE, OCR, "404", sent_at=0.0, now=0.0)
    gate.set_aside(Scope.ENGINE, CHAT, "down", sent_at=0.0, now=0.0)
    gate.faulted(OCR, sent_at=0.0, now=0.0)
    gate.set_aside(Scope.ROUTE, OCR, "404", sent_at=0.0, now=0.0)
    gate.set_aside(Scope.ENGINE, CHAT, "down", sent_at=0.0, now=0.0)
    assert gate.is_aside(CHAT)
    gate.keep_routes({CHAT})
    assert (list(gate.answers), gate.faults, gate.answered_calls) == ([CHAT], {}, 2)
    assert gate.down_reason() == "down"
    gate.answered(CHAT, well=True)
    assert not gate.is_aside(OCR)


def test_faults_of_calls_sent_before_the_first_fault_count_once() -> None:
    gate = Gate(64)
    for _ in range(64):
        gate.set_aside(Scope.ENGINE, CHAT, "down", sent_at=1.0, now=2.0)
    assert gate.admits(CHAT, 2.0 + ASIDE_SECONDS)


def test_repeated_trials_wait_longer_but_never_long() -> None:
    gate = Gate(1)
    now = 0.0
    for _ in range(20):
        gate.set_aside(Scope.ENGINE, CHAT, "down", sent_at=now, now=now)
        opens = gate.opens_at(now)
        assert opens is not None
        assert opens - now <= 10.0
        now = opens
    assert gate.down_reason() == "down"


def test_a_probe_that_answers_lets_a_trial_through_at_once() -> None:
    gate = Gate(1)
    gate.set_aside(Scope.ENGINE, CHAT, "down", sent_at=0.0, now=100.0)
    gate.may_be_back()
    assert gate.admits(CHAT, 100.0)


def test_an_engine_was_up_for_what_was_sent_before_its_fault_or_after_it_was_seen_again() -> None:
    gate = Gate(8)
    assert gate.was_up(1.0)
    gate.set_aside(Scope.ENGINE, CHAT, "502", sent_at=1.0, now=2.0)
    assert gate.was_up(1.5)
    assert not gate.was_up(2.5)
    gate.may_be_back()
    assert gate.was_up(2.5)
    gate.set_aside(Scope.ENGINE, CHAT, "502", sent_at=2.5, now=3.0)
    assert not gate.was_up(3.5)
    gate.answered(OCR, well=True)
    assert gate.was_up(3.5)


def in_outage(gate: Gate, now: float) -> Gate:
    for _ in range(OUTAGE_FAULTS):
        assert gate.admits(CHAT, now)
        gate.faulted(CHAT, sent_at=now, now=now)
    return gate


def test_a_route_whose_every_line_gets_500_lets_one_trial_at_a_time_through() -> None:
    gate = in_outage(Gate(64), 10.0)
    assert not gate.admits(CHAT, 10.1)
    assert gate.blocked(CHAT, 10.1) is WaitingReason.RETRYING
    assert gate.admits(OCR, 10.1)
    for trial in range(1, 20):
        now = 10.0 + trial * OUTAGE_TRIAL_SECONDS
        assert gate.admits(CHAT, now)
        gate.sent(CHAT)
        assert not gate.admits(CHAT, now)
        gate.returned(CHAT)
        gate.faulted(CHAT, sent_at=now, now=now)
        assert not gate.admits(CHAT, now)


def test_an_outage_ends_with_a_good_answer_but_not_with_a_refusal() -> None:
    gate = in_outage(Gate(64), 10.0)
    gate.answered(CHAT, well=False)
    assert not gate.admits(CHAT, 10.1)
    gate.answered(CHAT, well=True)
    in_outage(gate, 10.1)


def test_500s_among_answers_set_nothing_aside() -> None:
    gate = Gate(64)
    for _ in range(100):
        for _ in range(OUTAGE_FAULTS - 1):
            gate.faulted(CHAT, sent_at=1.0, now=1.0)
        gate.answered(CHAT, well=True)
        assert gate.admits(CHAT, 1.0)


def test_overload_closes_the_gate_for_a_while_and_narrows_it_once_per_burst() -> None:
    gate = Gate(64)
    for _ in range(64):
        gate.overloaded(None, now=5.0)
    assert int(gate.allowed) == 44
    assert not gate.has_room(5.05)
    assert gate.has_room(5.2)
    assert gate.blocked(CHAT, 5.05) is WaitingReason.RATE_LIMITED


def test_a_gate_narrowed_by_overload_widens_with_answers() -> None:
    gate = Gate(64)
    for burst in range(40):
        gate.overloaded(None, now=burst * 100.0)
    assert int(gate.allowed) == 1
    for _ in range(3000):
        gate.answered(CHAT, well=True)
    assert int(gate.allowed) == 64


def gate_with_window(size: int) -> Gate:
    gate = Gate(1024, window=Window(size))
    for _ in range(size):
        gate.sent(CHAT)
    return gate


def test_a_gate_with_a_window_of_its_own_admits_what_it_says() -> None:
    gate = gate_with_window(8)
    assert gate.is_full
    for answer in range(60):
        gate.returned(CHAT)
        gate.took(0.01, 0, 0.01 * answer)
        gate.sent(CHAT)
    assert not gate.is_full
    assert gate.window is not None
    assert gate.allowed == gate.window.size > 8


def test_a_burst_of_refusals_narrows_the_window_and_pauses_the_engine() -> None:
    gate = gate_with_window(64)
    for _ in range(64):
        gate.overloaded(None, now=5.0)
    assert int(gate.allowed) == 44
    assert not gate.has_room(5.05)


def test_a_single_refusal_among_many_answers_pauses_nothing_unless_it_asks_for_it() -> None:
    gate = gate_with_window(64)
    for _ in range(200):
        gate.took(0.1, 0, 1.0)
    gate.overloaded(None, now=5.0)
    assert (gate.allowed, gate.resume_at) == (64, 0.0)
    gate.overloaded(2.0, now=5.0)
    assert gate.resume_at == 7.0


def test_calls_that_are_not_answered_in_time_narrow_the_window() -> None:
    gate = gate_with_window(64)
    gate.timed_out(600.0)
    assert int(gate.allowed) == 1
