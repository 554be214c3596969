from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmill.jsontext import (
    TooManyValues,
    ascii_line,
    is_json,
    is_utf8,
    items,
    json_string,
    members,
    value_of,
    without_lone_surrogates,
)

texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=10,
)


@given(values, st.sampled_from([None, 0, 1, "\t", "\r\n "]), st.sampled_from(["é", "ascii"]))
def test_a_line_is_ascii_without_breaks_and_equal_in_value(
    value: object, indent: int | str | None, written: str
) -> None:
    raw = json.dumps(value, indent=indent, ensure_ascii=written == "ascii").encode()
    assert is_json(raw)
    line = ascii_line(raw)
    assert line.isascii()
    assert b"\n" not in line
    assert b"\r" not in line
    assert json.loads(line) == value


def test_characters_beyond_the_bmp_become_surrogate_pairs() -> None:
    assert ascii_line('"😀é"'.encode()) == rb'"\ud83d\ude00\u00e9"'


def test_bytes_that_are_in_form_come_back_as_they_are() -> None:
    raw = rb'{"b": 1.50, "a":"\u00e9\/\t"}'
    assert ascii_line(raw) == raw
    assert ascii_line(b"\r\n " + raw + b"\n") == raw


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"{",
        b"{}{}",
        b"{'a':1}",
        b"[1,]",
        b"NaN",
        b"-Infinity",
        b'"\xff"',
        b'{"a":"\xed\xa0\x80"}',
        b'"\n"',
        rb'"\ud83d"',
        b"\xef\xbb\xbf{}",
        b"01",
        b"<html>",
        b"[" * 100_000 + b"]" * 100_000,
    ],
)
def test_what_strict_readers_refuse_is_no_json(raw: bytes) -> None:
    assert not is_json(raw)


@pytest.mark.parametrize(
    "raw", [b"{}", b" [1e400, 1]\n", b"null", '"é\u2028"'.encode(), b"1" * 500]
)
def test_one_value_of_any_kind_is_json(raw: bytes) -> None:
    assert is_json(raw)


def test_utf8_is_judged_apart() -> None:
    assert is_utf8("é".encode())
    assert not is_utf8(b"\xe9")
    assert is_utf8(b"x" * (1024 * 1024 - 1) + "é".encode())
    assert not is_utf8(b"x" * (1024 * 1024 - 1) + b"\xc3")


def test_members_are_told_as_they_stand() -> None:
    found = members(b' {"b": 1 , "a":[ ],"b":{"a":1,"a":2}}')
    assert [(name, bytes(value)) for name, value in found] == [
        ("b", b"1"),
        ("a", b"[ ]"),
        ("b", b'{"a":1,"a":2}'),
    ]


def test_items_are_told_as_they_stand() -> None:
    assert [bytes(each) for each in items(b'[null, {"a": 1}, [2]]', 3)] == [
        b"null",
        b'{"a": 1}',
        b"[2]",
    ]
    assert items(b"[]", 3) == []


def test_more_values_than_are_taken_are_told() -> None:
    with pytest.raises(TooManyValues):
        items(b"[1,2,3,4]", 3)
    with pytest.raises(TooManyValues):
        members(b'{"a":1,"b":2}', 1)


@given(st.text())
def test_any_text_makes_a_valid_string(text: str) -> None:
    assert is_json(json_string(text))


@given(texts)
def test_a_string_reads_back_equal(text: str) -> None:
    assert json.loads(json_string(text)) == text


@given(st.text())
def test_lone_surrogates_and_only_those_are_replaced(text: str) -> None:
    raw = json.dumps({"k": text}).encode()
    mended = without_lone_surrogates(raw)
    assert is_json(mended)
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert json.loads(mended) == {"k": whole}
    if is_json(raw):
        assert mended == raw


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b'{"a": [1, 2.5, "x", null, true]}', {"a": [1, 2.5, "x", None, True]}),
        (b'{"a": 1e999, "b": [-1e999]}', {"a": "1e999", "b": ["-1e999"]}),
        (b"9" * 5000, "9" * 5000),
        (b"123456789012345678901234567890", 123456789012345678901234567890),
    ],
)
def test_a_number_that_python_cannot_hold_is_its_text(raw: bytes, value: object) -> None:
    assert value_of(raw) == value


@pytest.mark.parametrize("raw", [b"", b"{", b"NaN", b'"\\ud800"', b"\xff"])
def test_what_is_no_json_has_no_value(raw: bytes) -> None:
    with pytest.raises(ValueError, match="no JSON"):
        value_of(raw)
