r"""A text with `{{column}}` in it, filled in with each row. Nothing else is special: no logic, no
code. `\{{` is a literal `{{`."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Final

import msgspec

from batchmill.errors import UserError
from batchmill.tables.rows import Names, Row

_PLACE: Final = re.compile(r"\\\{\{|\{\{(.*?)\}\}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Template:
    """Texts with a column after each, but for the last."""

    texts: tuple[str, ...]
    columns: Names

    @classmethod
    def parse(cls, source: str) -> Template:
        """The template that is written so."""
        texts: list[str] = [""]
        columns: list[str] = []
        at = 0
        for match in _PLACE.finditer(source):
            texts[-1] += source[at : match.start()]
            at = match.end()
            if match[1] is None:
                texts[-1] += "{{"
            else:
                columns.append(match[1].strip())
                texts.append("")
        texts[-1] += source[at:]
        return cls(tuple(texts), tuple(columns))

    def refuse_unknown(self, known: Collection[str], option: str) -> None:
        """Raise `UserError` with the columns there are where the template names another."""
        for column in self.columns:
            if column not in known:
                there_are = ", ".join(known) or "none"
                raise UserError(
                    f"{option} names the column {column!r}, which the table does not have. "
                    f"Its columns: {there_are}."
                )

    def missing(self, row: Row) -> str | None:
        """The first of its columns that has no value in that row."""
        return next((each for each in self.columns if row.get(each) in (None, "")), None)

    def fill(self, row: Row) -> str:
        """The text for a row; a missing value is empty."""
        if not self.columns:
            return self.texts[0]
        pieces = [self.texts[0]]
        for column, text in zip(self.columns, self.texts[1:], strict=True):
            pieces += (as_text(row.get(column)), text)
        return "".join(pieces)


def as_text(value: object) -> str:
    """A value as it stands in a prompt."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bool | int | float | list | dict):
        return msgspec.json.encode(value).decode()
    return str(value)
