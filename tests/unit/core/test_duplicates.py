"""What is known of the originals that the lines of a shard wait for."""

from __future__ import annotations

import pytest

from batchmill.core.duplicates import ASK_SECONDS, ASKED_AT_ONCE, Followers
from batchmill.core.holdings import Held, Holdings
from batchmill.core.order import Original
from batchmill.core.work import OpenShard
from batchmill.failures import FailureKind, Failures
from batchmill.model import BlobName, Part, PartEntry, Stream
from batchmill.ports import Range
from tests.unit.core.shards import open_line, open_shard

SHARD = 9


def following(*originals: tuple[int, int], each: int = 1) -> Followers:
    """A shard with so many duplicates of each of these."""
    shard = open_shard(n=SHARD, lines=each * len(originals))
    lines = {
        Original(*original): [open_line(shard, each * place + n) for n in range(each)]
        for place, original in enumerate(originals)
    }
    shard.followers = each * len(originals)
    return Followers(shard, lines)


def part(*lines: int, stream: Stream = Stream.OUT, failures: Failures | None = None) -> Part:
    entries = tuple(PartEntry(line, 10 * n, 10, stream) for n, line in enumerate(lines))
    return Part(BlobName("p"), entries, 10, failures=() if failures is None else (failures,))


def failed(code: str, kind: FailureKind, *lines: int) -> Failures:
    return Failures(code, kind, False, "no", None, lines)


def holding(*shards: OpenShard) -> Holdings:
    holdings = Holdings()
    for shard in shards:
        holdings.hold(Held(shard.lease.lease, shard.tell, shard))
    return holdings


def test_originals_are_found_in_the_parts_of_open_shards_as_they_come() -> None:
    mine, earlier = following((2, 0), (2, 3)), open_shard(n=2, lines=5)
    holdings = holding(earlier, mine.shard)
    earlier.parts.append(part(1, 3))
    mine.look(holdings)
    assert {each: found.source.offset for each, found in mine.found.items()} == {(2, 3): 10}
    earlier.parts.append(part(0))
    mine.look(holdings)
    assert set(mine.found) == {(2, 0), (2, 3)}


def test_a_shard_may_follow_itself() -> None:
    mine = following((SHARD, 0))
    mine.shard.parts.append(part(0))
    mine.look(holding(mine.shard))
    assert set(mine.found) == {(SHARD, 0)}


def test_a_shard_that_is_still_read_is_not_looked_into() -> None:
    mine, earlier = following((2, 0)), open_shard(n=2)
    earlier.opened = False
    earlier.parts.append(part(0))
    mine.look(holding(earlier))
    assert not mine.found


def test_the_ledger_is_asked_about_the_others_once_and_then_about_a_few_at_a_time() -> None:
    mine = following(*((n, 0) for n in range(SHARD + 20)))
    holdings = holding(open_shard(n=3), mine.shard)
    first = mine.due(holdings, 0.0)
    assert sorted(first) == [n for n in range(SHARD + 20) if n not in {3, SHARD}]
    mine.asked.update(dict.fromkeys(first, 0.0))
    assert mine.due(holdings, ASK_SECONDS / 2) == []
    again = mine.due(holdings, ASK_SECONDS)
    assert len(again) == ASKED_AT_ONCE
    mine.asked.update(dict.fromkeys(again, ASK_SECONDS))
    assert not set(again) & set(mine.due(holdings, ASK_SECONDS))


@pytest.mark.parametrize(
    ("failures", "is_copied"),
    [
        (failed("http_400", FailureKind.FAILED, 0), True),
        (failed("request_timeout", FailureKind.FAILED, 0), True),
        (failed("worker_lost", FailureKind.FAILED, 0), True),
        (failed("internal_error", FailureKind.FAILED, 0), False),
        (failed("duplicate_custom_id", FailureKind.INVALID, 0), False),
        (failed("batch_cancelled", FailureKind.CANCELLED, 0), False),
        (None, False),
    ],
)
def test_the_failure_of_a_request_is_its_duplicates_and_that_of_a_line_is_not(
    failures: Failures | None, is_copied: bool
) -> None:
    mine = following((2, 0))
    mine.note(2, part(0, stream=Stream.ERR, failures=failures))
    assert (set(mine.found), mine.useless) == (
        ({(2, 0)}, set()) if is_copied else (set(), {(2, 0)})
    )


def test_what_a_segment_has_not_is_lost() -> None:
    mine = following((2, 0), (2, 1), (3, 0))
    mine.note(2, part(0, 1), {1: Range(BlobName("s"), 0, 5)})
    mine.lose(2)
    assert (set(mine.found), mine.useless) == ({(2, 1)}, {(2, 0)})
    assert mine.found[Original(2, 1)].is_final


def test_one_duplicate_takes_the_place_of_an_original_that_is_given_up() -> None:
    mine = following((2, 0), each=3)
    mine.useless.add(Original(2, 0))
    first = mine.give_up(Original(2, 0))
    assert first.local == 0
    assert {each: len(lines) for each, lines in mine.lines.items()} == {(SHARD, 0): 2}
    assert (mine.shard.followers, mine.useless) == (2, set())


def test_only_time_that_nobody_is_seen_to_hold_a_shard_counts() -> None:
    mine = following((2, 0))
    assert mine.alone_seconds(2, 5.0, is_held=False) == 0.0
    assert mine.alone_seconds(2, 9.0, is_held=False) == 4.0
    assert mine.alone_seconds(2, 10.0, is_held=True) == 0.0
    assert mine.alone_seconds(2, 11.0, is_held=False) == 0.0
