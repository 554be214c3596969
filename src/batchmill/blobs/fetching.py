"""Which requests bring several runs of blobs, where each costs a round trip. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from batchmill.model import BlobName
from batchmill.ports import Range

FETCH_BYTES = 4 * 1024 * 1024
"""What one request brings at most."""
NEARBY_BYTES = 64 * 1024


@dataclass(slots=True)
class Fetch:
    """One request, and the runs (by their places in what was asked) that lie within it."""

    blob: BlobName
    start: int
    end: int
    wanted_bytes: int
    places: list[int] = field(default_factory=list)

    def takes(self, run: Range) -> bool:
        """Whether the run may come with this request: it lies close enough for what is read
        needlessly to stay within what is wanted, and the request stays small."""
        end = max(self.end, run.offset + run.length)
        span = end - self.start
        return (
            run.blob == self.blob
            and span <= FETCH_BYTES
            and span <= 2 * (self.wanted_bytes + run.length) + NEARBY_BYTES
        )

    def add(self, place: int, run: Range) -> None:
        """Let the run come with this request."""
        self.end = max(self.end, run.offset + run.length)
        self.wanted_bytes += run.length
        self.places.append(place)


def fetches(ranges: Sequence[Range]) -> list[Fetch]:
    """Few requests that together bring all the runs; a run of no bytes needs none."""
    found: list[Fetch] = []
    places = [place for place, run in enumerate(ranges) if run.length]
    for place in sorted(places, key=lambda place: (ranges[place].blob, ranges[place].offset)):
        run = ranges[place]
        if not (found and found[-1].takes(run)):
            found.append(Fetch(run.blob, run.offset, run.offset, 0))
        found[-1].add(place, run)
    return found


def slices(start: int, end: int) -> list[tuple[int, int]]:
    """A run cut into pieces of a useful size, to be brought side by side."""
    return [(at, min(at + FETCH_BYTES, end)) for at in range(start, end, FETCH_BYTES)]
