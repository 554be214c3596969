"""Measuring what an engine brings (core/slices.py)."""

from __future__ import annotations

import pytest

from batchmill.core.slices import Cost, Slice


def slice_of(calls: int, seconds: float, tokens: int = 0) -> Slice:
    piece = Slice()
    for _ in range(100):
        piece.add(seconds, tokens, calls)
    return piece


def test_calls_that_only_wait_gain_nothing_and_calls_that_are_worked_on_all() -> None:
    cost = Cost()
    assert cost.gain(slice_of(10, 1.0), slice_of(20, 2.0)) == pytest.approx(0.0)
    assert cost.gain(slice_of(10, 1.0), slice_of(20, 1.0)) == pytest.approx(1.0)


def test_longer_answers_are_not_taken_for_a_slower_engine() -> None:
    cost = Cost()
    for tokens in range(10, 200):
        cost.add(0.5 + 0.01 * tokens, tokens)
    cost.learn()
    short, long = slice_of(8, 0.6, 10), slice_of(8, 10.5, 1000)
    assert cost.rate_of(long) == pytest.approx(cost.rate_of(short), rel=0.01)


def test_tokens_that_take_no_time_weigh_nothing() -> None:
    cost = Cost()
    for tokens in range(10, 200):
        cost.add(0.3, tokens)
    cost.learn()
    assert cost.per_token == pytest.approx(0.0)
