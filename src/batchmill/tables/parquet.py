"""Parquet, by pyarrow: an extra. Read and written some thousand rows at a time.

From Parquet to Parquet the columns go through as they are, whatever their types.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, Final

import msgspec

from batchmill.errors import UserError
from batchmill.jsontext import is_utf8
from batchmill.tables.rows import Added, Content, Names, Row, RowWriter, Table, unreadable

READ_ROWS: Final = 2048
READ_BYTES: Final = 1024 * 1024
GROUP_ROWS: Final = 32_768
GROUP_BYTES: Final = 4 * 1024 * 1024
"""A row group is written at so many rows or bytes; until then it is held."""
_EXACT: Final = 2**53
"""No whole number beyond is surely the same as a float."""
_INT64: Final = 2**63
_COUNTS: Final = ("prompt_tokens", "completion_tokens", "total_tokens")


def library() -> ModuleType:
    """Pyarrow with its Parquet part. Raises `UserError` where it is not installed.

    Unless told otherwise it takes its memory from the system's allocator: what Arrow's own once had
    it keeps, which was seen to be 40 MB for a large table.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # noqa: TID251 - Arrow reads it
    try:
        importlib.import_module("pyarrow.parquet")
        return importlib.import_module("pyarrow")
    except ImportError:
        message = "Parquet needs an extra: pip install 'batchmill[data]'; or take CSV or JSONL."
        raise UserError(message) from None


class ParquetTable:
    """A Parquet file. `arrow` is pyarrow."""

    def __init__(self, arrow: ModuleType, path: Path, shown: str) -> None:
        self._arrow, self._path, self._shown = arrow, path, shown

    @property
    def schema(self) -> Any:
        """The columns with their types."""
        with self._opened() as file:
            return file.schema_arrow

    def columns(self) -> Names:
        names = tuple(self.schema.names)
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            message = f"two columns are named {twice!r}."
            raise unreadable(self._shown, "its schema", message)
        return names

    def rows(self, only: Collection[str] = ()) -> Iterator[Row]:
        at = 0
        for batch in self.batches(only):
            try:
                rows = self._as_texts(self._spelt_out(batch), only, at).to_pylist()
            except (ValueError, OverflowError, self._arrow.ArrowException) as error:
                raise unreadable(self._shown, f"after row {at}", f"{error}.") from error
            at += len(rows)
            yield from rows

    def batches(self, only: Collection[str] = ()) -> Iterator[Any]:
        """The rows in record batches of their own types."""
        with self._opened() as file:
            try:
                yield from file.iter_batches(READ_ROWS, columns=list(only) or None)
            except (OSError, self._arrow.ArrowException) as error:
                raise UserError(f"{self._shown} is damaged: {error}.") from error

    def _spelt_out(self, batch: Any) -> Any:
        """The batch with those times as texts that are finer than Python's."""
        fine = [n for n, field in enumerate(batch.schema) if str(field.type).find("[ns") >= 0]
        for n in fine:
            text = batch.column(n).cast(_in_words(self._arrow, batch.schema[n].type))
            batch = batch.set_column(n, batch.schema.names[n], text)
        return batch

    def _as_texts(self, batch: Any, wanted: Collection[str], at: int) -> Any:
        """The batch, before which so many rows are, with bytes that are UTF-8 as texts; those of a
        `wanted` column must be."""
        kinds = self._arrow.types
        for n, field in enumerate(batch.schema):
            if kinds.is_binary(field.type) or kinds.is_large_binary(field.type):
                try:
                    text = batch.column(n).cast(self._arrow.string())
                except self._arrow.ArrowException:
                    if field.name in wanted:
                        row = at + 1 + _first_that_is_no_text(batch.column(n))
                        message = f"the bytes in column {field.name!r} are no UTF-8 text."
                        raise unreadable(self._shown, f"row {row}", message) from None
                    continue
                batch = batch.set_column(n, field.name, text)
        return batch

    def _opened(self) -> Any:
        try:
            return self._arrow.parquet.ParquetFile(
                self._path, buffer_size=READ_BYTES, pre_buffer=False
            )
        except (OSError, self._arrow.ArrowException) as error:
            raise UserError(f"{self._shown} is no Parquet file: {error}.") from error


def _first_that_is_no_text(column: Any) -> int:
    """The place of the first value, of some that are bytes, that is not UTF-8."""
    values = enumerate(column.to_pylist())
    return next(n for n, value in values if value is not None and not is_utf8(value))


def open_parquet_writer(
    arrow: ModuleType, sink: BinaryIO, table: Table, added: Sequence[Added]
) -> RowWriter:
    """A writer for a table of any format."""
    more = arrow.schema([(each.name, _type_of(arrow, each.content)) for each in added])
    if isinstance(table, ParquetTable):
        return ParquetWriter(arrow, sink, table.batches(), table.schema, more)
    kinds = _kinds(table)
    schema = arrow.schema([(name, _arrow_type(arrow, kind)) for name, kind in kinds.items()])
    return ParquetWriter(arrow, sink, _batches(arrow, table, kinds, schema), schema, more)


class ParquetWriter:
    """Writes record batches with the columns that are added to them."""

    def __init__(
        self, arrow: ModuleType, sink: BinaryIO, batches: Iterator[Any], schema: Any, more: Any
    ) -> None:
        self._arrow, self._batches, self._more = arrow, batches, more
        fields = [*schema, *more]
        self._schema = arrow.schema(fields, metadata=schema.metadata)
        self._writer = arrow.parquet.ParquetWriter(sink, self._schema)
        self._batch: Any = next(batches, None)
        self._values: list[Row] = []
        self._group: list[Any] = []
        self._group_rows = self._group_bytes = 0

    def add(self, values: Row) -> None:
        self._values.append(values)
        if len(self._values) == self._batch.num_rows:
            self._join()

    def close(self) -> None:
        self._write()
        self._writer.close()

    def _join(self) -> None:
        """The batch at hand has its values: put them beside it, and take the next."""
        columns = [
            self._arrow.array([row.get(field.name) for row in self._values], field.type)
            for field in self._more
        ]
        whole = self._arrow.RecordBatch.from_arrays(
            [*self._batch.columns, *columns], schema=self._schema
        )
        self._values = []
        self._group.append(whole)
        self._group_rows += whole.num_rows
        self._group_bytes += whole.nbytes
        if self._group_rows >= GROUP_ROWS or self._group_bytes >= GROUP_BYTES:
            self._write()
        self._batch = next(self._batches, None)

    def _write(self) -> None:
        if self._group:
            self._writer.write_table(self._arrow.Table.from_batches(self._group, self._schema))
        self._group, self._group_rows, self._group_bytes = [], 0, 0


def _batches(
    arrow: ModuleType, table: Table, kinds: Mapping[str, type], schema: Any
) -> Iterator[Any]:
    """The rows of a table of another format in record batches."""
    rows: list[Row] = []
    for row in table.rows():
        rows.append({name: _fitting(row.get(name), kind) for name, kind in kinds.items()})
        if len(rows) == READ_ROWS:
            yield arrow.RecordBatch.from_pylist(rows, schema=schema)
            rows = []
    if rows:
        yield arrow.RecordBatch.from_pylist(rows, schema=schema)


class _Long(int):
    """Stands for whole numbers of which some are no exact float."""


def _kinds(table: Table) -> dict[str, type]:
    """Which type all values of each column have; text where they differ or are not plain."""
    kinds: dict[str, type] = dict.fromkeys(table.columns(), type(None))
    for row in table.rows():
        for name, value in row.items():
            if value is not None and (kind := _kind_of(value)) is not kinds[name]:
                kinds[name] = _joint(kinds[name], kind)
    return kinds


def _kind_of(value: object) -> type:
    if type(value) is not int or -_EXACT <= value <= _EXACT:
        return type(value)
    return _Long if -_INT64 <= value < _INT64 else str


def _joint(one: type, other: type) -> type:
    if one is type(None):
        return other if other in (bool, int, _Long, float, str) else str
    if {one, other} == {int, _Long}:
        return _Long
    return float if {one, other} == {int, float} else str


def _fitting(value: object, kind: type) -> object:
    if kind is not str or value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


def _arrow_type(arrow: ModuleType, kind: type) -> Any:
    whole = arrow.int64()
    types = {bool: arrow.bool_(), int: whole, _Long: whole, float: arrow.float64()}
    return types.get(kind, arrow.string())


def _in_words(arrow: ModuleType, type_: Any) -> Any:
    """The type with text in the place of times that are finer than Python's."""
    if str(type_).find("[ns") < 0:
        return type_
    if arrow.types.is_list(type_) or arrow.types.is_large_list(type_):
        make = arrow.list_ if arrow.types.is_list(type_) else arrow.large_list
        return make(_in_words(arrow, type_.value_type))
    if arrow.types.is_struct(type_):
        return arrow.struct([(field.name, _in_words(arrow, field.type)) for field in type_])
    return arrow.string()


def _type_of(arrow: ModuleType, content: Content) -> Any:
    match content:
        case Content.TEXT:
            return arrow.string()
        case Content.VECTOR:
            return arrow.list_(arrow.float64())
        case Content.COUNTS:
            return arrow.struct([(name, arrow.int64()) for name in _COUNTS])
