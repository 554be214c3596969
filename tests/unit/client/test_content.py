"""A file's bytes come once each, however often and in whatever way its stream breaks."""

from __future__ import annotations

from typing import Any

import pytest

from batchmill.client import reading
from batchmill.client.errors import Unreachable
from batchmill.client.steps import Request
from tests.unit.client.play import CUT, Opened, Play, part

DATA = b"".join(b'{"n": %d}\n' % n for n in range(40))
WHOLE = [DATA[at : at + 7] for at in range(0, len(DATA), 7)]


def start_of(request: Request) -> int:
    return int(request.headers.get("range", "bytes=0-").removeprefix("bytes=")[:-1])


def given(play: Play) -> bytes:
    return b"".join(line + b"\n" for line in play.given)


def test_a_download_goes_on_at_the_byte_where_it_broke() -> None:
    def server(request: Request) -> Any:
        at = start_of(request)
        return part(DATA, at, DATA[at : at + 50], CUT) if at else [DATA[:50], CUT]

    play = Play(server)
    with pytest.raises(Unreachable):
        play.run(reading.lines_of("f"))
    assert given(play) == DATA


def test_a_download_whose_range_is_ignored_leaves_out_what_came_before() -> None:
    breaks = iter([3, 20, 41])

    def server(request: Request) -> Any:
        return [*WHOLE[: next(breaks, len(WHOLE))], CUT][: len(WHOLE)]

    play = Play(server)
    play.run(reading.lines_of("f"))
    assert given(play) == DATA
    assert [start_of(each) for each in play.asked] == [0, 21, 140, 287]


def test_a_download_that_broke_behind_its_last_byte_has_no_more_to_give() -> None:
    answers = iter([[*WHOLE, CUT], WHOLE])
    play = Play(lambda _: next(answers))
    play.run(reading.lines_of("f"))
    assert given(play) == DATA


def test_a_whole_file_that_ends_before_the_place_is_asked_for_again() -> None:
    answers = iter([[DATA[:100], CUT], [DATA[:99]], [DATA]])
    play = Play(lambda _: next(answers))
    play.run(reading.lines_of("f"))
    assert given(play) == DATA


@pytest.mark.parametrize(
    ("again", "says"),
    [
        (Opened([DATA[:99]]), "ended before the byte"),
        (Opened([DATA[:100], CUT]), "cut"),
        (part(DATA, 0, DATA), "other bytes"),
        (part(DATA, 99, DATA[99:]), "other bytes"),
        (part(DATA, 101, DATA[101:]), "other bytes"),
        (Opened([DATA[100:]], 206), "other bytes"),
        (Opened([DATA[100:]], 206, {"content-range": "lines 100-"}), "other bytes"),
    ],
)
def test_what_never_goes_on_at_the_place_is_given_up_and_nothing_doubled(
    again: Opened, says: str
) -> None:
    play = Play(lambda request: again if start_of(request) else [DATA[:100], CUT])
    with pytest.raises(Unreachable, match=says):
        play.run(reading.lines_of("f"))
    assert given(play) == DATA[:100].rpartition(b"\n")[0] + b"\n"
    assert len(play.asked) == 8
