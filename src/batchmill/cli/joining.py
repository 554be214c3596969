"""Results beside the rows they belong to: each row of a table with its result's columns.

The columns have the names that `batchmill run` gives them. Rows are joined by custom_id, or, where
the table has none, row by row: then there must be as many rows as lines. What does not fit is
refused, never guessed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from batchmill.cli import words
from batchmill.cli.exits import Failure
from batchmill.cli.output import note
from batchmill.errors import UserError
from batchmill.tables.delimited import DelimitedTable, delimited_line
from batchmill.tables.result import names_beside

if TYPE_CHECKING:
    from batchmill.client import Result

Row = Mapping[str, Any]
ID: Final = "custom_id"
AHEAD: Final = 10_000
"""How far the table's order may be from the input's."""


def joined(table: Path, on: str | None, results: Iterator[Result], total: int) -> Iterator[bytes]:
    """The lines of the joined table, of the same kind as the table. Raises `Failure`."""
    is_csv = table.suffix.lower() == ".csv"
    if not is_csv and table.suffix.lower() not in {".jsonl", ".ndjson"}:
        raise Failure(f"{table} should end with .csv or .jsonl; other tables: `batchmill run`.")
    columns, count = _shape(table, on or ID, is_csv=is_csv)
    key = _key(table, columns, on)
    if key is None and count != total:
        raise Failure(
            f"{table} has {count:,} rows and the job {total:,} lines, and no column {ID!r} says "
            "which belong together. Name the column that does with --on."
        )
    pairs = _pairs(_rows(table, is_csv=is_csv), key, results, table)
    names = names_beside(columns)
    yield from _as_csv(pairs, columns, names) if is_csv else _as_json(pairs, names)


def result_columns(result: Result | None, names: Sequence[str]) -> dict[str, Any]:
    """A result as columns of these names; a row without one has nulls."""
    values = (None,) * len(names) if result is None else _values(result)
    return dict(zip(names, values, strict=True))


def _values(result: Result) -> tuple[Any, ...]:
    failure = result.failure
    answer = result.text
    if answer is None and result.ok:
        answer = result.body
    error = None if failure is None else ": ".join(filter(None, failure))
    return answer, result.status, error, result.usage


def _pairs(
    rows: Iterator[Row], key: str | None, results: Iterator[Result], table: Path
) -> Iterator[tuple[Row, Result | None]]:
    """Each row with its result. Results that come before their rows are held, so many at most."""
    held: dict[str, Result] = {}
    matched = bare = nameless = 0
    for number, row in enumerate(rows):
        if key is None:
            result = next(results, None)
            bare += result is None
            yield row, result
            continue
        wanted = _id(row, key)
        while wanted is not None and wanted not in held:
            if len(held) >= AHEAD:
                raise Failure(
                    f"Row {number + 1} of {table} ({wanted!r}) is too far from its place in the "
                    "job's input, or was not in it. Sort the table as the input was."
                )
            result = next(results, None)
            if result is None:
                break
            if result.custom_id is None or result.custom_id in held:
                nameless += 1
            else:
                held[result.custom_id] = result
        result = None if wanted is None else held.pop(wanted, None)
        matched += result is not None
        bare += result is None
        yield row, result
    left = 0 if key is None else len(held) + nameless + sum(1 for _ in results)
    if left and not matched:
        raise Failure(f"No row of {table} has an id of the job's in {key!r}; is it this job's?")
    if left:
        note(f"{words.plural(left, 'result')} of the job belong to no row of {table}.")
    if bare:
        note(f"{words.plural(bare, 'row')} of {table} without a result: the columns are empty.")


def _id(row: Row, key: str) -> str | None:
    """The row's custom_id; a cell that is missing, null or empty is none."""
    value = row.get(key)
    return None if value is None or value == "" else str(value)


def _key(table: Path, columns: list[str], on: str | None) -> str | None:
    if on is not None and on not in columns:
        raise Failure(f"{table} has no column {on!r}; it has {', '.join(columns[:20])}.")
    return on or (ID if ID in columns else None)


def _shape(table: Path, key: str, *, is_csv: bool) -> tuple[list[str], int]:
    """The table's columns, and how many rows it has. Raises `Failure` where two share an id."""
    columns: dict[str, None] = {}
    seen: set[str] = set()
    count = 0
    for count, row in enumerate(_rows(table, is_csv=is_csv), 1):
        if not columns.keys() >= row.keys():
            columns |= dict.fromkeys(row)
        found = _id(row, key)
        if found in seen:
            raise Failure(
                f"Row {count:,} of {table} has the id {found!r} in {key!r}, as a row before it; "
                "a result belongs to one row. Take one of them out, or name another column "
                "with --on."
            )
        if found is not None:
            seen.add(found)
    return list(columns), count


def _rows(table: Path, *, is_csv: bool) -> Iterator[Row]:
    try:
        if is_csv:
            yield from DelimitedTable(table, str(table), ",").rows()
        else:
            with table.open(encoding="utf-8-sig", newline="") as file:
                yield from _json_rows(table, file)
    except OSError as error:
        raise Failure(f"{table} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise Failure(f"{table} is not UTF-8 (byte {error.start:,}); save it as UTF-8.") from error
    except UserError as error:
        raise Failure(str(error)) from error


def _json_rows(table: Path, lines: Any) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Failure(f"Line {number:,} of {table} is no JSON: {error}.") from error
        if not isinstance(row, dict):
            raise Failure(f"Line {number:,} of {table} should be a JSON object.")
        yield row


def _as_json(pairs: Iterator[tuple[Row, Result | None]], names: Sequence[str]) -> Iterator[bytes]:
    for row, result in pairs:
        yield json.dumps({**row, **result_columns(result, names)}).encode()


def _as_csv(
    pairs: Iterator[tuple[Row, Result | None]], columns: list[str], names: Sequence[str]
) -> Iterator[bytes]:
    heads = [*columns, *names]
    yield delimited_line(heads).encode("utf-8", "replace")
    for row, result in pairs:
        whole = {**row, **result_columns(result, names)}
        cells = [_cell(whole.get(head)) for head in heads]
        yield delimited_line(cells).encode("utf-8", "replace")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
