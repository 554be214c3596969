"""The columns that an answer adds to its row: `response`, `status`, `error`, `usage`. Where the
table has a column of one of these names, all four begin with `batchmill_`, as often as it takes
until the table has none of them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec

from batchmill.tables.answers import Answer
from batchmill.tables.requests import CHAT
from batchmill.tables.rows import Added, Content, Row

NAMES: Final[tuple[str, ...]] = ("response", "status", "error", "usage")
PREFIX: Final = "batchmill_"


def names_beside(columns: Collection[str]) -> tuple[str, ...]:
    """The four names beside these columns."""
    names = NAMES
    while not set(columns).isdisjoint(names):
        names = tuple(PREFIX + name for name in names)
    return names


def added_to(columns: Collection[str], endpoint: str = CHAT) -> tuple[Added, ...]:
    """The columns that are added to a table with these."""
    response = Content.VECTOR if endpoint == "/v1/embeddings" else Content.TEXT
    contents = (response, Content.TEXT, Content.TEXT, Content.COUNTS)
    named = zip(names_beside(columns), contents, strict=True)
    return tuple(Added(name, content) for name, content in named)


def values_of(answer: Answer, added: tuple[Added, ...]) -> Row:
    """What stands in these columns for an answer."""
    usage = None if answer.usage is None else msgspec.to_builtins(answer.usage)
    values = (answer.response, answer.status.value, answer.error, usage)
    return {column.name: value for column, value in zip(added, values, strict=True)}
