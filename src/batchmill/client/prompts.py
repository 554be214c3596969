"""Prompts over rows: `Classify: {{text}}` with a row's columns in their places. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from batchmill.client.errors import Unreadable

_PLACE: Final = re.compile(r"\{\{\s*([^{}]+?)\s*\}\}")


def filled(template: str, row: Mapping[str, Any]) -> str:
    """The template with each `{{column}}` as the row has it: texts as they are, other values as
    JSON, null as nothing. Raises `Unreadable` for a column that the row does not have."""

    def value(place: re.Match[str]) -> str:
        name = place[1]
        if name not in row:
            known = ", ".join(map(str, row)) or "none"
            raise Unreadable(f"The prompt asks for {name!r}; the row has these columns: {known}.")
        found = row[name]
        if found is None:
            return ""
        return found if isinstance(found, str) else msgspec.json.encode(found).decode()

    return _PLACE.sub(value, template)
