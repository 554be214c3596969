from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from batchmill.errors import UserError
from batchmill.tables.rows import Added, Content, Format, open_table, open_writer

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

ADDED = (Added("response"), Added("usage", Content.COUNTS))


def written(tmp_path: Path, source: bytes, format: Format, to: Format, values: list[Any]) -> bytes:
    (tmp_path / "table").write_bytes(source)
    table = open_table(tmp_path / "table", format, "the table")
    sink = io.BytesIO()
    writer = open_writer(sink, to, table, ADDED)
    for value in values:
        writer.add({"response": value, "usage": None})
    writer.close()
    return sink.getvalue()


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    twice = arrow.Table.from_arrays([arrow.array(["a"]), arrow.array(["b"])], names=["t", "t"])
    parquet.write_table(twice, tmp_path / "table")
    table = open_table(tmp_path / "table", Format.PARQUET, "the table")
    with pytest.raises(UserError, match="two columns are named 't'"):
        table.columns()


def test_json_rows_become_columns_of_one_type_each(tmp_path: Path) -> None:
    rows = [{"n": 1, "x": 1, "b": True, "mixed": 1}, {"n": 2, "x": 0.5, "mixed": "a", "late": [1]}]
    source = json.dumps(rows).encode()
    data = written(tmp_path, source, Format.JSON, Format.PARQUET, ["r", None])
    found = parquet.read_table(io.BytesIO(data))
    assert found.to_pylist() == [
        {"n": 1, "x": 1.0, "b": True, "mixed": "1", "late": None, "response": "r", "usage": None},
        {"n": 2, "x": 0.5, "b": None, "mixed": "a", "late": "[1]", "response": None, "usage": None},
    ]


def test_times_finer_than_pythons_are_written_out(tmp_path: Path) -> None:
    source = io.BytesIO()
    parquet.write_table(arrow.table({"at": arrow.array([1], arrow.timestamp("ns"))}), source)
    data = written(tmp_path, source.getvalue(), Format.PARQUET, Format.JSONL, ["r"])
    assert json.loads(data) == {
        "at": "1970-01-01 00:00:00.000000001",
        "response": "r",
        "usage": None,
    }


def test_what_is_no_parquet_is_told(tmp_path: Path) -> None:
    (tmp_path / "table").write_bytes(b"a,b\n1,2\n")
    with pytest.raises(UserError, match="the table is no Parquet file"):
        open_table(tmp_path / "table", Format.PARQUET, "the table").columns()


@pytest.mark.parametrize(
    ("values", "column"),
    [
        ([1, 2**63], ["1", str(2**63)]),
        ([0.5, 2**53 + 1], ["0.5", str(2**53 + 1)]),
        ([2**53 + 1, 0.5], [str(2**53 + 1), "0.5"]),
        ([1, 2**53 + 1, 2], [1, 2**53 + 1, 2]),
        ([2**53, 0.5], [2.0**53, 0.5]),
    ],
)
def test_numbers_that_no_type_holds_exactly_become_texts(
    tmp_path: Path, values: list[Any], column: list[Any]
) -> None:
    source = "".join(json.dumps({"n": value}) + "\n" for value in values).encode()
    data = written(tmp_path, source, Format.JSONL, Format.PARQUET, ["r"] * len(values))
    assert parquet.read_table(io.BytesIO(data))["n"].to_pylist() == column


def test_times_finer_than_pythons_are_written_out_within_lists_and_structs(tmp_path: Path) -> None:
    fine = arrow.timestamp("ns")
    columns = {
        "list": arrow.array([[1]], arrow.list_(fine)),
        "struct": arrow.array([{"at": 1, "n": 2}], arrow.struct([("at", fine), ("n", "int64")])),
    }
    source = io.BytesIO()
    parquet.write_table(arrow.table(columns), source)
    (tmp_path / "table").write_bytes(source.getvalue())
    [row] = open_table(tmp_path / "table", Format.PARQUET, "the table").rows()
    at = "1970-01-01 00:00:00.000000001"
    assert row == {"list": [at], "struct": {"at": at, "n": 2}}


def test_bytes_that_are_text_are_taken_as_text(tmp_path: Path) -> None:
    for kind in (arrow.binary(), arrow.large_binary()):
        cells = arrow.array([b"hello", None, "h\u00e9".encode()], kind)
        parquet.write_table(arrow.table({"t": cells}), tmp_path / "table")
        table = open_table(tmp_path / "table", Format.PARQUET, "the table")
        assert [row["t"] for row in table.rows(["t"])] == ["hello", None, "h\u00e9"]


def test_bytes_that_are_no_text_are_refused_where_they_are_asked_for(tmp_path: Path) -> None:
    count = 3_000
    raw = [b"fine", None] * (count // 2 - 1) + [b"fine", b"\xff"]
    columns = {"t": ["a"] * count, "raw": arrow.array(raw, arrow.binary())}
    parquet.write_table(arrow.table(columns), tmp_path / "table")
    table = open_table(tmp_path / "table", Format.PARQUET, "the table")
    assert list(table.rows(["t"])) == [{"t": "a"}] * count
    with pytest.raises(UserError, match=r"the table, row 3000: .*'raw' are no"):
        list(table.rows(["raw"]))
