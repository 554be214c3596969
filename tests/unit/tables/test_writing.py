from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from batchmill.tables.rows import Added, Format, open_table, open_writer


def written(
    table: Path, source: Format, values: Sequence[Mapping[str, Any]], to: Format, *added: str
) -> bytes:
    sink = io.BytesIO()
    opened = open_table(table, source, "the table")
    writer = open_writer(sink, to, opened, [Added(name) for name in added])
    for each in values:
        writer.add(each)
    writer.close()
    return sink.getvalue()


@pytest.mark.parametrize(("format", "delimiter"), [(Format.CSV, ","), (Format.TSV, "\t")])
@pytest.mark.parametrize("answer", ["a\nb", "a\rb", "a\r\nb", '"a", b\tc', "\r"])
def test_an_answer_with_line_breaks_is_read_back_as_the_same_row(
    tmp_path: Path, format: Format, delimiter: str, answer: str
) -> None:
    table = tmp_path / "table"
    table.write_text("q\n1\n")
    data = written(table, format, [{"response": answer}], format, "response")
    rows = list(csv.reader(io.StringIO(data.decode(), newline=""), delimiter=delimiter))
    assert rows == [["q", "response"], ["1", answer]]
