"""Whatever the ledger publishes is readable with the right bytes, whenever the power goes."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from batchmill.clock import ManualClock
from batchmill.core.names import part_name, segment_name
from batchmill.errors import BlobMissing
from batchmill.fleet import Timing
from batchmill.ledger import SqlLedger
from batchmill.model import BlobName, Part, PartEntry, Segment, ShardLease, Stream
from batchmill.ports import Range
from tests.conformance.ledger.world import ALICE, BEAT_SECONDS, LEASE_SECONDS, World
from tests.crash.lossy_blobs import LossyBlobs, LossyDisk, PowerLost

LINES = 4
SHARDS = 3
PART = BlobName("jobs/j/parts/0.1.0")


def content(n: int, line: int) -> bytes:
    """What the result of a line is, at whatever attempt."""
    return b"shard %d line %d %s\n" % (n, line, b"x" * (17 * n + line))


class Durability(RuleBasedStateMachine):
    """A worker that writes parts and segments, on a machine whose power may go at any call."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="batchmill-"))
        self.runner = asyncio.Runner()
        self.held: dict[int, ShardLease] = {}
        self.done: dict[int, set[int]] = {n: set() for n in range(SHARDS)}
        self.closed: set[int] = set()
        self.parts_written = 0

    def run(self, step: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(step)

    @initialize()
    def start(self) -> None:
        self.blobs = LossyBlobs(self.folder / "blobs")
        self.clock = ManualClock()
        shutil.copyfile(_template(), self.folder / "ledger.db")
        timing = Timing(LEASE_SECONDS, BEAT_SECONDS)
        opening = SqlLedger.open(self.folder / "ledger.db", clock=self.clock, timing=timing)
        self.ledger = self.run(opening)
        self.world = World(self.ledger, self.clock)
        self.job = self.run(self.world.queue([LINES] * SHARDS))
        self.claim()

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.run(self.ledger.close_connections())
        self.runner.close()
        shutil.rmtree(self.folder)

    def claim(self) -> None:
        """Take every open shard, as a worker does after a restart."""
        self.clock.advance(LEASE_SECONDS + 1)
        self.held = {each.lease.n: each for each in self.run(self.world.claim(ALICE))}

    @rule(
        chosen=st.sets(
            st.tuples(st.integers(0, SHARDS - 1), st.integers(0, LINES - 1)), min_size=1
        ),
        calls=st.none() | st.integers(0, 25),
        kept=st.integers(0, 12),
    )
    def flush(self, chosen: set[tuple[int, int]], calls: int | None, kept: int) -> None:
        """Write a part for each shard and publish them; the power may go while they are written."""
        parts, written = [], []
        for n, held in self.held.items():
            lines = sorted(
                line for shard, line in chosen if shard == n and line not in self.done[n]
            )
            if lines:
                part, pieces = self.part(held, lines)
                parts.append((held.lease, part))
                written.append((part.blob, pieces))
        if not parts or not self.survives(self.blobs.put_many(written), calls, kept):
            return
        assert all(self.run(self.ledger.commit(parts)))
        for lease, part in parts:
            self.done[lease.n] |= {entry.line for entry in part.entries}

    def part(self, held: ShardLease, lines: list[int]) -> tuple[Part, list[bytes]]:
        pieces = [content(held.lease.n, line) for line in lines]
        entries, at = [], 0
        for line, piece in zip(lines, pieces, strict=True):
            entries.append(PartEntry(line, at, len(piece), Stream.OUT))
            at += len(piece)
        self.parts_written += 1
        lease = held.lease
        name = part_name(lease.job, lease.n, lease.epoch, self.parts_written)
        return Part(name, tuple(entries), at), pieces

    @precondition(lambda self: any(len(self.done[n]) == LINES for n in self.held))
    @rule(calls=st.none() | st.integers(0, 12), kept=st.integers(0, 6))
    def close(self, calls: int | None, kept: int) -> None:
        """Write the segment of a finished shard and publish it; the power may go meanwhile."""
        n = next(n for n in self.held if len(self.done[n]) == LINES)
        lease = self.held[n].lease
        name = segment_name(lease.job, Stream.OUT, n, lease.epoch)
        if self.survives(self.write_segment(n, name), calls, kept):
            size = sum(len(content(n, line)) for line in range(LINES))
            segment = Segment(Stream.OUT, name, size, LINES)
            assert self.run(self.ledger.close(lease, [segment]))
            self.closed.add(n)
            del self.held[n]

    async def write_segment(self, n: int, name: BlobName) -> None:
        writer = await self.blobs.writer(name)
        for line in range(LINES):
            await writer.write(content(n, line))
        await writer.commit()

    @rule(kept=st.integers(0, 12))
    def lose_power(self, kept: int) -> None:
        """The power goes while nothing is being written."""
        self.blobs.crash(kept)
        self.claim()

    def survives(self, step: Coroutine[Any, Any, None], calls: int | None, kept: int) -> bool:
        """Whether a step ended before the power went; if not, the worker has restarted."""
        if calls is not None:
            self.blobs.lose_power_after(calls)
        try:
            self.run(step)
        except PowerLost:
            self.blobs.crash(kept)
            self.claim()
            return False
        self.blobs.disk.calls_left = None
        return True

    @invariant()
    def every_published_result_is_readable(self) -> None:
        if not hasattr(self, "ledger"):
            return
        for n, held in self.held.items():
            for part in held.parts:
                ranges = [Range(part.blob, entry.offset, entry.length) for entry in part.entries]
                found = self.run(self.blobs.read_ranges(ranges))
                assert found == [content(n, entry.line) for entry in part.entries]
        for segment in self.run(self.ledger.segments(self.job.id, Stream.OUT)):
            [data] = self.run(self.blobs.read_ranges([Range(segment.blob, 0, segment.size_bytes)]))
            assert data in {
                b"".join(content(n, line) for line in range(LINES)) for n in self.closed
            }

    @rule()
    def restart(self) -> None:
        """Another worker adopts what is published."""
        self.claim()
        adopted = {
            n: {e.line for p in held.parts for e in p.entries} for n, held in self.held.items()
        }
        assert adopted == {n: self.done[n] for n in self.held}
        assert set(self.held) | self.closed == set(range(SHARDS))


_made: list[Path] = []


def _template() -> Path:
    """A database with its tables and nothing else."""
    if not _made:
        path = Path(tempfile.mkdtemp(prefix="batchmill-")) / "template.db"

        async def make() -> None:
            await (await SqlLedger.open(path, clock=ManualClock())).close_connections()

        asyncio.run(make())
        _made.append(path)
    return _made[0]


@pytest.fixture(scope="module", autouse=True)
def _no_template_is_left() -> Any:
    yield
    for path in _made:
        shutil.rmtree(path.parent)
    _made.clear()


TestDurability = Durability.TestCase
TestDurability.settings = settings(
    max_examples=20,
    stateful_step_count=20,
    deadline=None,
    phases=[Phase.generate],  # every step syncs: shrinking would take minutes
    suppress_health_check=list(HealthCheck),
)


# ---- the disk itself forgets what it should ---------------------------------------------


class Forgetful(LossyDisk):
    """A disk on which one kind of sync does nothing: a store that relied on it loses blobs."""

    def __init__(self, forgets: str) -> None:
        super().__init__()
        self.forgets = forgets

    def sync_data(self, fd: int) -> None:
        if self.forgets != "sync_data":
            super().sync_data(fd)

    def sync_directory(self, path: Path) -> None:
        if self.forgets != "sync_directory":
            super().sync_directory(path)


async def read(blobs: LossyBlobs, name: BlobName) -> bytes:
    return b"".join([piece async for piece in blobs.read(name)])


async def test_a_put_that_has_returned_survives(tmp_path: Path) -> None:
    blobs = LossyBlobs(tmp_path)
    await blobs.put_many([(PART, [b"0123456789"])])
    blobs.crash()
    assert await read(blobs, PART) == b"0123456789"


@pytest.mark.parametrize("kept", [0, 99])
@pytest.mark.parametrize("forgets", ["sync_data", "sync_directory"])
async def test_a_store_that_forgot_a_sync_would_be_found_out(
    tmp_path: Path, forgets: str, kept: int
) -> None:
    blobs = LossyBlobs(tmp_path, Forgetful(forgets))
    await blobs.put_many([(PART, [b"0123456789"])])
    blobs.crash(kept)
    if forgets == "sync_data":
        assert await read(blobs, PART) == b"01234"
    elif kept:
        assert await read(blobs, PART) == b"0123456789"
    else:
        with pytest.raises(BlobMissing):
            await read(blobs, PART)


@pytest.mark.parametrize("calls", range(12))
async def test_a_put_that_was_interrupted_leaves_the_blob_that_was_there(
    tmp_path: Path, calls: int
) -> None:
    blobs = LossyBlobs(tmp_path)
    await blobs.put_many([(PART, [b"before"])])
    blobs.lose_power_after(calls)
    try:
        await blobs.put_many([(PART, [b"after it"])])
        expected = {b"after it"}
    except PowerLost:
        expected = {b"before", b"after it"}
    blobs.crash(kept=calls % 3)
    assert await read(blobs, PART) in expected
