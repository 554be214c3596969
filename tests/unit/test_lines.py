from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmill.core.lines import (
    BLANK,
    BOM,
    FIRST_LINE_BYTES,
    Block,
    LineCounter,
    Splitter,
    model_of,
    open_line,
    spans,
    with_model,
)
from batchmill.errors import BlobMissing
from batchmill.model import Shard

files = st.lists(
    st.sampled_from(
        [b"\n", b"\r\n", b" ", b"\t", b"\r", b"{}", b'{"a":1}', b"x", b"\x0c", BOM, BOM[:2]]
    )
    | st.binary(max_size=6),
    max_size=30,
).map(b"".join)


def chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(edges)]


FoundLine = tuple[bytes, int, int, int]


def lines_of(block: Block) -> list[FoundLine]:
    return list(zip(block.texts, block.starts, block.ends, block.physicals, strict=True))


def naive(data: bytes, max_line_bytes: int = 10**9) -> list[FoundLine]:
    at = len(BOM) if data.startswith(BOM) else 0
    found = []
    for number, raw in enumerate(data[at:].split(b"\n"), 1):
        end = min(at + len(raw) + 1, len(data))
        if raw.strip(BLANK):
            found.append((raw if len(raw) <= max_line_bytes else b"", at, end, number))
        at = end
    return found


def split(pieces: list[bytes], max_line_bytes: int = 10**9) -> list[FoundLine]:
    splitter = Splitter(max_line_bytes)
    fed = [line for piece in pieces for line in lines_of(splitter.feed(piece))]
    return fed + lines_of(splitter.finish())


@given(files, st.lists(st.integers(0, 10**6), max_size=8))
def test_chunks_are_split_as_the_whole_file_is(data: bytes, cuts: list[int]) -> None:
    assert split(chunks(data, cuts)) == naive(data)


@given(files, st.lists(st.integers(0, 10**6), max_size=8), st.integers(1, 12))
def test_lines_that_are_too_long_are_found_without_their_bytes(
    data: bytes, cuts: list[int], limit: int
) -> None:
    expected = naive(data, limit)
    found = split(chunks(data, cuts), limit)
    assert [line[1:] for line in found] == [line[1:] for line in expected]
    for (raw, *_), (right, *_) in zip(found, expected, strict=True):
        assert raw == right or (not right and len(raw) > limit)


@given(files, st.lists(st.integers(0, 10**6), max_size=8))
def test_lines_are_counted_as_they_are_split(data: bytes, cuts: list[int]) -> None:
    counter = LineCounter()
    for piece in chunks(data, cuts):
        counter.feed(piece)
    lines = naive(data)
    assert counter.lines == len(lines)
    first = lines[0][0].strip(BLANK) if lines else b""
    assert counter.first_is_object == (first in (b"{}", b'{"a":1}'))


def test_a_splitter_holds_no_line_beyond_its_limit() -> None:
    splitter = Splitter(1000)
    for _ in range(100):
        assert lines_of(splitter.feed(b"x" * 500)) == []
        assert sum(map(len, splitter._held)) <= 1000
    assert lines_of(splitter.feed(b"x\n{}\n")) == [
        (b"", 0, 50_002, 1),
        (b"{}", 50_002, 50_005, 2),
    ]


def test_a_first_line_that_is_too_long_to_keep_is_judged_by_its_beginning() -> None:
    counter = LineCounter()
    counter.feed(b" " * 2 * FIRST_LINE_BYTES)
    for _ in range(20):
        counter.feed(b'{"a":"' + b"x" * 10_000)
    assert counter.lines == 1
    assert counter.first_is_object
    assert len(counter._first) == FIRST_LINE_BYTES


@pytest.mark.parametrize(
    ("data", "is_object"),
    [
        (b"", False),
        (b"\n\r\n  \n", False),
        (b'\n {"a":1}\r\n[]', True),
        (b"[]\n{}", False),
        (b'{"a":}', False),
        (rb'{"a":"\ud83d"}', True),
        (b"\xff\xfe{\x00}\x00", False),
        (BOM + b"{}", True),
        (BOM, False),
    ],
)
def test_the_first_line_that_is_not_blank_says_whether_a_file_holds_objects(
    data: bytes, *, is_object: bool
) -> None:
    counter = LineCounter()
    counter.feed(data)
    assert counter.first_is_object is is_object


def shard_of(data: bytes, lines: int, physical: int = 1) -> Shard:
    return Shard(0, 0, 0, lines, 0, len(data), physical)


@given(files)
def test_a_shard_has_the_lines_that_the_splitter_found(data: bytes) -> None:
    data = data.removeprefix(BOM)
    expected = naive(data)
    if data.startswith(BOM):
        return
    found = spans(data, shard_of(data, len(expected), 7))
    assert [(span.local, data[span.start : span.end], span.physical) for span in found] == [
        (local, raw, physical + 6) for local, (raw, _, _, physical) in enumerate(expected)
    ]


def test_a_shard_with_other_lines_than_validation_saw_is_damaged() -> None:
    with pytest.raises(BlobMissing, match="had 3 lines"):
        spans(b"{}\n{}\n", shard_of(b"{}\n{}\n", 3))
    assert spans(b"", shard_of(b"", 3)) == []


texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(
    custom_id=texts,
    ascii_only=st.booleans(),
    separators=st.sampled_from([None, (",", ":"), (" , ", " : ")]),
)
def test_a_custom_id_comes_back_code_point_for_code_point(
    custom_id: str, *, ascii_only: bool, separators: tuple[str, str] | None
) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": custom_id}]}
    line = {"body": body, "method": "POST", "x": [None], "custom_id": custom_id}
    raw = json.dumps(line, ensure_ascii=ascii_only, separators=separators).encode()
    id_text, body_text = open_line(raw)
    assert id_text.isascii()
    assert json.loads(id_text) == custom_id
    assert body_text in raw
    assert json.loads(body_text) == body


def test_a_lone_surrogate_in_a_body_is_replaced_when_it_is_opened() -> None:
    raw = rb'{"custom_id":"a","body":{"x":"\ud83d!","y":"\ud83d\ude00"}}'
    assert open_line(raw) == (b'"a"', rb'{"x":"\ufffd!","y":"\ud83d\ude00"}')


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b'{"custom_id":"a"}',
        b"[1]",
        b'{"custom_id":"a","body":' + b"[" * 10**5,
        rb'{"x":"\ud800","custom_id":"a","body":' + b"[" * 10**5,
    ],
)
def test_what_validation_cannot_have_seen_does_not_open(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        open_line(raw)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", b'{"model":"new"}'),
        (b" { } ", b'{"model":"new"} '),
        (b'{ "a" : 1.50 }', b'{"model":"new","a" : 1.50 }'),
        (b'{"model":"new", "a":1}', b'{"model":"new", "a":1}'),
        (
            b'{"a":[1, 2],"model":"old","b":"\xc3\xa9"}',
            b'{"a":[1, 2],"model":"new","b":"\xc3\xa9"}',
        ),
        (b'{"model":null,"x":1e400}', b'{"model":"new","x":1e400}'),
        (rb'{"mod\u0065l":"old"}', b'{"model":"new"}'),
        (b'{"a":{"model":"inner"}}', b'{"model":"new","a":{"model":"inner"}}'),
    ],
)
def test_a_model_is_changed_in_its_place_or_put_first(body: bytes, expected: bytes) -> None:
    assert with_model(body, "new") == expected


@given(st.dictionaries(texts, st.integers() | texts), texts)
def test_a_model_of_any_name_can_be_set(body: dict[str, object], model: str) -> None:
    raw = json.dumps(body, ensure_ascii=False).encode()
    changed = json.loads(with_model(raw, model))
    assert changed == {**body, "model": model}
    assert [key for key in changed if key != "model"] == [key for key in body if key != "model"]


@pytest.mark.parametrize(
    ("raw", "model"),
    [
        (b'{"custom_id":"a","body":{"model":"m"}}', "m"),
        (b'{"body":{"messages":[{"model":"x"}],"model":"m\\u00e9"},"model":"y"}', "mé"),
        (b'{"body":{"input":"\\ud83d","model":"m"}}', "m"),
        (b'{"body":{}}', None),
        (b'{"body":{"model":1}}', None),
        (b'{"body":{"model":"m"}', None),
        (b'{"body":' + b"[" * 100_000, None),
    ],
)
def test_a_lines_own_model_is_read_from_its_body(raw: bytes, model: str | None) -> None:
    assert model_of(raw) == model
