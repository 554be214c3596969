"""What a child keeps of a shard, and in which order the rest is sent."""

from __future__ import annotations

import json

import pytest

from batchmill.core.children import Beginning, order_of, runs
from batchmill.core.order import ShardOrder
from batchmill.failures import FailureKind, Failures
from batchmill.model import (
    BlobName,
    Part,
    PartEntry,
    Shard,
    Stream,
)
from batchmill.ports import Range
from batchmill.results import Choice, ShardResults
from batchmill.usage import Usage

FAILED, EXPIRED, INVALID = FailureKind.FAILED, FailureKind.EXPIRED, FailureKind.INVALID
SHARD = Shard(3, 0, 100, 6, 0, 0, 101)


def part(lines: dict[int, Stream], *failures: Failures) -> Part:
    entries = tuple(PartEntry(line, 0, 10, stream) for line, stream in lines.items())
    return Part(BlobName("b"), entries, 0, Usage(1, 1), failures)


def failures(code: str, kind: FailureKind, *lines: int) -> Failures:
    return Failures(code, kind, True, "m", f"id-{lines[0]}", lines)


RESULTS = ShardResults(
    SHARD,
    (
        part({4: Stream.ERR, 0: Stream.OUT, 1: Stream.ERR}, failures("a", FAILED, 4, 1)),
        part(
            {5: Stream.ERR, 2: Stream.ERR, 3: Stream.OUT},
            failures("b", EXPIRED, 5),
            failures("c", INVALID, 2),
        ),
    ),
    (),
)


@pytest.mark.parametrize(
    ("choice", "kept"),
    [
        (Choice(frozenset({FAILED})), [0, 3, 2, 5]),
        (Choice(frozenset({EXPIRED})), [0, 3, 1, 2, 4]),
        (Choice(frozenset({FAILED, EXPIRED})), [0, 3, 2]),
        (Choice(frozenset(FailureKind)), [0, 3, 2]),
        (Choice(lines=frozenset({101, 105})), [0, 3, 2, 4]),
        (Choice(lines=frozenset({1, 100, 102, 103, 106})), [0, 3, 1, 2, 4, 5]),
    ],
)
def test_all_lines_but_the_chosen_are_kept_in_long_runs(choice: Choice, kept: list[int]) -> None:
    beginning = Beginning.of(RESULTS, choice)
    assert list(beginning.sides) == kept
    failed = sorted(line for each in beginning.failures for line in each.lines)
    assert failed == sorted(line for line in kept if line not in {0, 3})
    assert beginning.usage == Usage(2, 2)


def test_an_example_that_is_sent_again_is_no_longer_named() -> None:
    [kept, *_] = Beginning.of(RESULTS, Choice(lines=frozenset({104}))).failures
    assert (kept.lines, kept.custom_id) == ((1,), None)
    [kept, *_] = Beginning.of(RESULTS, Choice(lines=frozenset({101}))).failures
    assert (kept.lines, kept.custom_id) == ((4,), "id-4")


def test_neighbouring_ranges_are_read_as_one() -> None:
    a, b = BlobName("a"), BlobName("b")
    ranges = [Range(a, 0, 5), Range(a, 5, 5), Range(b, 10, 1), Range(b, 12, 1), Range(b, 13, 2)]
    assert runs(ranges) == [Range(a, 0, 10), Range(b, 10, 1), Range(b, 12, 3)]


def test_an_order_made_anew_is_the_one_that_validation_writes() -> None:
    rows = [
        {"custom_id": f"c{n}", "body": {"messages": [{"content": f"{n % 2}"}], "max_tokens": n}}
        for n in range(5)
    ]
    data = b"\n\n".join(json.dumps(row).encode() for row in rows[:3]) + b"\n{}\n \n"
    data += json.dumps(rows[3]).encode()
    made = order_of(data, Shard(0, 0, 0, 5, 0, len(data), 1))
    wanted = ShardOrder()
    for row in (*rows[:3], None, rows[3]):
        if row is None:
            wanted.add((), 0)
        else:
            message = json.dumps(row["body"]["messages"][0]).encode()  # type: ignore[index]
            wanted.add((message,), row["body"]["max_tokens"])  # type: ignore[index]
    assert made.encode() == wanted.encode()
