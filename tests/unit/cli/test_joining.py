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
    with pytest.raises(Failure, match=r"line 2: there are 2 fields"):
        list(joined(table, on, iter([answered("a", "one")]), 1))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("custom_id,t\na,1\nb,2\na,3\n", r"Row 3 of .* has the id 'a' in 'custom_id'.* --on"),
        ("custom_id,t,t\na,1,2\n", "two columns are named 't'"),
        ('custom_id,t\na,"x\nb,2\n', "a quote that is never closed"),
    ],
    ids=["repeated id", "repeated column", "unclosed quote"],
)
def test_a_table_that_would_lose_something_is_refused(tmp_path: Path, text: str, told: str) -> None:
    table = tmp_path / "table.csv"
    table.write_text(text)
    with pytest.raises(Failure, match=told):
        as_csv(table, answered("a", "one"), answered("b", "two"))


def test_a_long_field_is_read_whole(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("custom_id,t\na," + "x" * 140_000 + "\n")
    lines = list(joined(table, None, iter([answered("a", "one")]), 1))
    assert lines[1].startswith(b"a," + b"x" * 140_000 + b",one")


def test_a_row_without_an_id_takes_no_answer_and_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "table.jsonl"
    table.write_text('{"custom_id":null}\n{}\n{"custom_id":"None"}\n{"custom_id":"z"}\n')
    lines = joined(table, None, iter([answered("None", "one")]), 1)
    assert [json.loads(line)["response"] for line in lines] == [None, None, "one", None]
    assert "3 rows of" in capsys.readouterr().err
