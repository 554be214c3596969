"""Few requests for many runs, and never much more than was asked for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from batchmill.blobs.fetching import FETCH_BYTES, NEARBY_BYTES, fetches, slices
from batchmill.model import BlobName
from batchmill.ports import Range

A, B = BlobName("a"), BlobName("b")
RUNS = st.lists(
    st.builds(
        Range,
        st.sampled_from([A, B]),
        st.integers(0, 20_000_000),
        st.integers(0, FETCH_BYTES + 10),
    ),
    max_size=30,
)


@given(RUNS)
def test_every_run_lies_within_one_request_that_is_not_much_larger(runs: list[Range]) -> None:
    found = fetches(runs)
    placed = sorted(place for fetch in found for place in fetch.places)
    assert placed == [place for place, run in enumerate(runs) if run.length]
    for fetch in found:
        for run in (runs[place] for place in fetch.places):
            assert fetch.blob == run.blob
            assert fetch.start <= run.offset
            assert run.offset + run.length <= fetch.end
        assert fetch.end - fetch.start <= 2 * fetch.wanted_bytes + NEARBY_BYTES
        assert fetch.end - fetch.start <= FETCH_BYTES or len(fetch.places) == 1


def test_neighbours_come_with_one_request_and_far_ones_do_not() -> None:
    near = [Range(A, at, 100) for at in (300, 0, 150)]
    assert len(fetches(near)) == 1
    assert len(fetches([*near, Range(A, 1_000_000, 100), Range(B, 0, 100)])) == 3


def test_a_long_run_is_cut_without_a_gap() -> None:
    found = slices(5, 5 + 2 * FETCH_BYTES + 1)
    assert found[0][0] == 5
    assert found[-1][1] == 5 + 2 * FETCH_BYTES + 1
    assert [end for _, end in found[:-1]] == [start for start, _ in found[1:]]
