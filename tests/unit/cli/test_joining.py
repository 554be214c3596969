from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from batchmill.cli.exits import Failure
from batchmill.cli.joining import joined
from batchmill.client.objects import Result, result


def answered(custom_id: str, text: str) -> Result:
    body = {"choices": [{"message": {"content": text}}]}
    response = {"status_code": 200, "body": body}
    return result(json.dumps({"custom_id": custom_id, "response": response}).encode())


def as_csv(table: Path, *results: Result) -> list[dict[str, str]]:
    lines = joined(table, None, iter(results), len(results))
    text = b"".join(line + b"\n" for line in lines).decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_an_answer_with_line_breaks_stays_in_its_row(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("custom_id\na\nb\n")
    rows = as_csv(table, answered("a", "one\ntwo\rthree"), answered("b", "four"))
    assert [row["response"] for row in rows] == ["one\ntwo\rthree", "four"]


def test_the_columns_of_a_table_keep_what_they_hold(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("custom_id,status\na,new\n")
    [row] = as_csv(table, answered("a", "fine"))
    assert (row["status"], row["batchmill_status"]) == ("new", "200")
    assert row["batchmill_response"] == "fine"


def test_a_column_that_only_a_later_row_has_keeps_what_it_holds_too(tmp_path: Path) -> None:
    table = tmp_path / "table.jsonl"
    table.write_text('{"custom_id":"a"}\n{"custom_id":"b","error":"mine"}\n')
    results = iter([answered("a", "one"), answered("b", "two")])
    first, second = (json.loads(line) for line in joined(table, None, results, 2))
    assert (first["batchmill_response"], second["batchmill_response"]) == ("one", "two")
    assert second["error"] == "mine"


@pytest.mark.parametrize("on", [None, "b"])
def test_a_row_with_more_fields_than_names_is_told_with_its_line(
    tmp_path: Path, on: str | None
) -> None:
    table = tmp_path / "table.csv"
    table.write_text("custom_id\na,b\n")
    with pytest.raises(Failure, match=r"Line 2 of .* more fields"):
        list(joined(table, on, iter([answered("a", "one")]), 1))
