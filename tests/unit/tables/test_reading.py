from __future__ import annotations

import json
from pathlib import Path

import pytest

from batchmill.errors import UserError
from batchmill.tables.rows import Format, format_of, open_table


def read(tmp_path: Path, data: bytes, format: Format) -> tuple[tuple[str, ...], list[dict]]:
    path = tmp_path / "table"
    path.write_bytes(data)
    table = open_table(path, format, "the table")
    return table.columns(), [dict(row) for row in table.rows()]


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("a.csv", Format.CSV),
        ("a.csv.gz", Format.CSV),
        ("A.TSV", Format.TSV),
        ("x/y.parquet", Format.PARQUET),
        ("a.ndjson", Format.JSONL),
        ("a.json", Format.JSON),
        ("a.xlsx", None),
        ("a", None),
    ],
)
def test_the_name_says_the_format(name: str, format: Format | None) -> None:
    assert format_of(name) is format


def test_csv_keeps_quotes_line_breaks_and_delimiters_in_fields_and_drops_a_bom(
    tmp_path: Path,
) -> None:
    data = b'\xef\xbb\xbfid,text\r\n1,"a ""b"", c\nd"\r\n\r\n2,\xc3\xa9\r\n'
    columns, rows = read(tmp_path, data, Format.CSV)
    assert columns == ("id", "text")
    assert rows == [{"id": "1", "text": 'a "b", c\nd'}, {"id": "2", "text": "é"}]


def test_tsv_is_cut_at_tabs(tmp_path: Path) -> None:
    assert read(tmp_path, b"a\tb\n1,5\t2\n", Format.TSV)[1] == [{"a": "1,5", "b": "2"}]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"a,a\n1,2\n", "two columns are named 'a'"),
        (b"a,b\n1,2\n1,2,3\n", "line 3: there are 3 fields"),
        (b"a,b\n1,2\n1\n", "line 3: there are 1 fields"),
        (b'a,b\n1,"never closed\n', "never closed"),
        ("a,b\n1,café\n".encode("latin1"), "not UTF-8"),
    ],
)
def test_csv_that_cannot_be_read_is_told_with_its_line(
    tmp_path: Path, data: bytes, says: str
) -> None:
    with pytest.raises(UserError, match=says):
        read(tmp_path, data, Format.CSV)


@pytest.mark.parametrize("characters", [1, 7, 1_000_000])
def test_a_json_array_is_read_object_by_object_however_it_is_cut(
    tmp_path: Path, characters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchmill.tables.jsonrows.READ_CHARACTERS", characters)
    rows = [{"a": n, "b": ["}", {"c": '"],['}], "é": None} for n in range(20)]
    found = read(tmp_path, json.dumps(rows, indent=1).encode(), Format.JSON)
    assert found == (("a", "b", "é"), rows)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'{"a": 1}', "should be an array"),
        (b'[{"a": 1} {"a": 2}]', "after row 1: a comma"),
        (b'[{"a": 1}, {"a": ]', "after row 1: this is not valid JSON"),
        (b'[{"a": 1}, 2]', "row 2: this is no object"),
        (b'[{"a": 1}', "after row 1"),
        (b'[{"a": 1}][{"a": 2}]', "after row 1: something follows"),
        (b'[]\n{"a": 1}', "after row 0: something follows"),
        (b"", "should be an array"),
    ],
)
def test_a_json_array_that_is_none_is_told_with_its_row(
    tmp_path: Path, data: bytes, says: str
) -> None:
    with pytest.raises(UserError, match=says):
        read(tmp_path, data, Format.JSON)


def test_json_lines_may_differ_in_their_columns(tmp_path: Path) -> None:
    columns, rows = read(tmp_path, b'{"a":1}\n\n{"b":[2],"a":null}\n', Format.JSONL)
    assert columns == ("a", "b")
    assert rows == [{"a": 1}, {"b": [2], "a": None}]


def test_a_line_that_is_no_json_is_told_with_its_number(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="line 2: this is no JSON object"):
        read(tmp_path, b'{"a":1}\nnope\n', Format.JSONL)


def test_half_of_a_surrogate_pair_in_an_array_is_told_with_its_row(tmp_path: Path) -> None:
    whole = b'[{"a": "\\ud83d\\ude00"}]'
    assert read(tmp_path, whole, Format.JSON)[1] == [{"a": "\U0001f600"}]
    with pytest.raises(UserError, match="after row 1: half of a surrogate pair"):
        read(tmp_path, b'[{"a": 1}, {"a": "\\ud83d"}]', Format.JSON)
