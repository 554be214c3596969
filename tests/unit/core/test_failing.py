"""What is kept of failed lines, and how they add up."""

from __future__ import annotations

import json

import pytest

from batchmill.core.failing import (
    code_of,
    failure_of,
    failures_of_copy,
    grouped,
    is_retryable,
    kind_of,
    merged,
)
from batchmill.failures import MAX_CODES, OTHER, FailureKind, Failures, FailureTally
from batchmill.model import Fate, Outcome

FAILED, EXPIRED, CANCELLED = Fate.FAILED, Fate.EXPIRED, Fate.CANCELLED


def found(code: str, *lines: int, kind: FailureKind = FailureKind.FAILED) -> Failures:
    return Failures(code, kind, True, f"says {code}", f"id-{code}", lines)


@pytest.mark.parametrize(
    ("outcome", "code", "kind", "retryable"),
    [
        (Outcome(EXPIRED, code="batch_expired"), "batch_expired", FailureKind.EXPIRED, True),
        (
            Outcome(CANCELLED, code="batch_cancelled"),
            "batch_cancelled",
            FailureKind.CANCELLED,
            True,
        ),
        (Outcome(FAILED, 400, b"{}"), "http_400", FailureKind.FAILED, False),
        (Outcome(FAILED, 422, b"{}", code="bad_role"), "bad_role", FailureKind.FAILED, False),
        (Outcome(FAILED, 404, b"{}", code="x"), "x", FailureKind.FAILED, False),
        (Outcome(FAILED, 403, b"{}"), "http_403", FailureKind.FAILED, True),
        (Outcome(FAILED, 429, b"{}"), "http_429", FailureKind.FAILED, True),
        (
            Outcome(FAILED, 500, b"{}", code="engine_error"),
            "engine_error",
            FailureKind.FAILED,
            True,
        ),
        (Outcome(FAILED, 200, b'"x"', code="not_json"), "not_json", FailureKind.FAILED, True),
        (Outcome(FAILED, code="request_timeout"), "request_timeout", FailureKind.FAILED, True),
        (Outcome(FAILED, code="internal_error"), "internal_error", FailureKind.FAILED, True),
        (Outcome(FAILED, code="worker_lost"), "worker_lost", FailureKind.FAILED, False),
        (Outcome(FAILED, code="reply_too_large"), "reply_too_large", FailureKind.FAILED, False),
        (Outcome(FAILED, code="invalid_url"), "invalid_url", FailureKind.INVALID, False),
        (Outcome(FAILED), "request_failed", FailureKind.FAILED, False),
    ],
)
def test_an_outcome_has_a_code_a_kind_and_a_prospect(
    outcome: Outcome, code: str, kind: FailureKind, retryable: bool
) -> None:
    assert (code_of(outcome), kind_of(outcome), is_retryable(outcome)) == (code, kind, retryable)


def test_failures_are_grouped_by_code_with_the_first_as_example() -> None:
    one = Outcome(FAILED, 400, b"{}", code="a", message="first")
    two = Outcome(FAILED, 400, b"{}", code="a", message="second")
    other = Outcome(FAILED, 500, b"{}", code="b", message="third")
    groups = grouped(
        [failure_of(3, b'"x"', one), failure_of(4, b'"y"', other), failure_of(7, b'"z"', two)]
    )
    assert groups == (
        Failures("a", FailureKind.FAILED, False, "first", "x", (3, 7)),
        Failures("b", FailureKind.FAILED, True, "third", "y", (4,)),
    )


@pytest.mark.parametrize(
    ("custom_id", "shown"),
    [
        (b"null", None),
        (b'""', ""),
        (b'"\\u2028\\ud83d\\ude00"', "\u2028\U0001f600"),
        (b'"a\\u0000b"', None),
        (json.dumps("x" * 200).encode(), "x" * 200),
        (json.dumps("x" * 201).encode(), None),
        (json.dumps("x" * 100_000).encode(), None),
    ],
)
def test_an_id_is_shown_whole_or_not_at_all(custom_id: bytes, shown: str | None) -> None:
    [group] = grouped([failure_of(0, custom_id, Outcome(FAILED, code="a"))])
    assert group.custom_id == shown


def test_texts_of_engines_are_cut_and_made_printable() -> None:
    outcome = Outcome(FAILED, 400, code="c\x00" * 500, message="m\ud800\n" * 500)
    [group] = grouped([failure_of(0, b"null", outcome)])
    assert len(group.code) <= 64
    assert len(group.message) <= 200
    assert group.code.isprintable()
    assert group.message.isprintable()
    group.message.encode()


def test_a_tally_counts_codes_and_kinds_and_keeps_the_first_example() -> None:
    tally = FailureTally().plus([found("a", 1, 2), found("b", 3, kind=FailureKind.EXPIRED)])
    later = Failures("a", FailureKind.FAILED, False, "later", "later", (5,))
    tally = tally.plus([later, found("c", 6, kind=FailureKind.INVALID)])
    assert [(each.code, each.count, each.message) for each in tally.summary] == [
        ("a", 3, "says a"),
        ("b", 1, "says b"),
        ("c", 1, "says c"),
    ]
    kinds = {kind: tally.count(kind) for kind in FailureKind}
    assert list(kinds.values()) == [3, 1, 0, 1]


def test_a_tally_of_many_codes_stays_short_and_exact() -> None:
    tally = FailureTally()
    for n in range(100):
        tally = tally.plus([found(f"code-{n % 50}", n)])
    assert len(tally.summary) == MAX_CODES
    assert tally.total == 100
    counts = {each.code: each.count for each in tally.summary}
    assert counts["code-0"] == 2
    assert counts[OTHER] == 100 - 2 * (MAX_CODES - 1)


def test_an_engine_whose_code_is_other_is_counted_with_the_rest() -> None:
    tally = FailureTally().plus([found(OTHER, 0)])
    for n in range(30):
        tally = tally.plus([found(f"code-{n}", n)])
    assert len(tally.summary) == MAX_CODES
    assert tally.total == 31


def test_copies_of_failures_are_grouped_as_these_are() -> None:
    copies = [failures_of_copy(found("a", 1, 2), line, b'"x"') for line in (7, 8)]
    copies.append(failures_of_copy(found("b", 1), 9, b"null"))
    first, second = merged(copies)
    assert (first.code, first.lines, first.custom_id, first.message) == ("a", (7, 8), "x", "says a")
    assert (second.code, second.lines, second.custom_id) == ("b", (9,), None)
