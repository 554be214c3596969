r"""A text with `{{column}}` in it, filled in with each row. Nothing else is special: no logic, no
code. `\{{` is a literal `{{`. For tables and the client alike."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Final

import msgspec

_PLACE: Final = re.compile(r"\\\{\{|\{\{(.*?)\}\}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Template:
    """Texts with a column after each, but for the last."""

    texts: tuple[str, ...]
    columns: tuple[str, ...]

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

    def complaint(self, known: Collection[str]) -> str | None:
        """What is wrong with it for a row of these columns: "names the column ...", or None."""
        unknown = next((each for each in self.columns if each not in known), None)
        if unknown is None:
            return None
        there_are = ", ".join(known) or "none"
        return f"names the column {unknown!r}, which is not there. The columns are: {there_are}."

    def missing(self, row: Mapping[str, object]) -> str | None:
        """The first of its columns that has no value in that row."""
        return next((each for each in self.columns if row.get(each) in (None, "")), None)

    def fill(self, row: Mapping[str, object]) -> str:
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
