from __future__ import annotations

import gc
import weakref
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmill.calls import Broken
from batchmill.engines.parsing import AnswerParser, HttpAnswer

LENGTH = b'HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 11\r\n\r\n{"ok":true}'
CHUNKED = (
    b"HTTP/1.1 100 Continue\r\nX-Early: 1\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'5\r\n{"ok"\r\n6;note=1\r\n:true}\r\n0\r\nX-Late: 1\r\n\r\n'
)


def fed(*pieces: bytes, limit: int = 1_000_000) -> AnswerParser:
    parser = AnswerParser(limit)
    for piece in pieces:
        parser.feed(piece)
    return parser


@given(st.sampled_from([LENGTH, CHUNKED]), st.sets(st.integers(1, 150)))
def test_it_does_not_matter_where_the_bytes_are_cut(raw: bytes, cuts: set[int]) -> None:
    edges = [0, *sorted(cut for cut in cuts if cut < len(raw)), len(raw)]
    parser = fed(*(raw[a:b] for a, b in pairwise(edges)))
    assert isinstance(parser.outcome, HttpAnswer)
    assert (parser.outcome.status, parser.outcome.body) == (200, b'{"ok":true}')
    assert parser.keeps


def test_headers_are_lower_case_the_first_wins_and_trailers_are_none() -> None:
    plain, chunked = fed(LENGTH).outcome, fed(CHUNKED).outcome
    assert isinstance(plain, HttpAnswer)
    assert plain.headers == {b"x-a": b"1", b"content-length": b"11"}
    assert isinstance(chunked, HttpAnswer)
    assert chunked.headers == {b"transfer-encoding": b"chunked"}


@pytest.mark.parametrize(
    "raw",
    [
        LENGTH + b"more",
        LENGTH + LENGTH,
        LENGTH.replace(b"X-A: 1", b"Connection: close"),
        LENGTH.replace(b"HTTP/1.1", b"HTTP/1.0"),
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nxx",
    ],
    ids=["more bytes", "a second answer", "close", "HTTP/1.0", "an upgrade"],
)
def test_after_anything_odd_the_connection_is_not_kept(raw: bytes) -> None:
    parser = fed(raw)
    assert isinstance(parser.outcome, HttpAnswer)
    assert not parser.keeps


def test_a_body_without_a_length_ends_with_its_connection() -> None:
    parser = fed(b'HTTP/1.1 200 OK\r\n\r\n{"ok":', b"true}")
    assert parser.outcome is None
    parser.end()
    assert isinstance(parser.outcome, HttpAnswer)
    assert parser.outcome.body == b'{"ok":true}'
    assert not parser.keeps


@pytest.mark.parametrize("raw", [b"", LENGTH[:20], LENGTH[:-1], CHUNKED[:-2], CHUNKED[:60]])
def test_an_answer_that_breaks_off_is_a_reset(raw: bytes) -> None:
    parser = fed(raw)
    parser.end()
    assert isinstance(parser.outcome, Broken)
    assert parser.outcome.kind == "reset"


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"SSH-2.0\r\n", "not_json"),
        (b"HTTP/1.1 099 Odd\r\n\r\n", "not_json"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n1", "not_json"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n1", "not_json"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "reset"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", "too_large"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_001, "too_large"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 2_000_000, "not_json"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 400_000, "not_json"),
    ],
)
def test_what_cannot_be_an_answer_is_broken_at_once(raw: bytes, kind: str) -> None:
    parser = fed(*(raw[n : n + 65_536] for n in range(0, len(raw), 65_536)), limit=1_000)
    assert isinstance(parser.outcome, Broken)
    assert parser.outcome.kind == kind


def test_a_body_of_tiny_chunks_is_read() -> None:
    start = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    parser = fed(start, *[b"1\r\nx\r\n" * 1_000] * 500, b"0\r\n\r\n")
    assert isinstance(parser.outcome, HttpAnswer)
    assert len(parser.outcome.body) == 500_000


def test_endless_trailers_are_not() -> None:
    start = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n"
    parser = fed(start, *[b"A: b\r\n" * 1_000] * 300)
    assert isinstance(parser.outcome, Broken)


def test_a_closed_parser_is_freed_without_the_garbage_collector() -> None:
    gc.disable()
    try:
        parser = fed(LENGTH)
        gone = weakref.ref(parser)
        parser.close()
        del parser
        assert gone() is None
    finally:
        gc.enable()
