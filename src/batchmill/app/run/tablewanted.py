"""What is asked of each row of a table, and what becomes of answers that are none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from batchmill.tables.policies import Missing, OnBadAnswer
from batchmill.tables.requests import CHAT, Asking
from batchmill.tables.rows import Format
from batchmill.template import Template


@dataclass(frozen=True, slots=True)
class TableWanted:
    """What is asked of each row, and in which formats rows come and go. `tries` is how often a row
    is asked at most, with `retry`."""

    prompt: str
    input_format: Format
    output_format: Format
    system: str | None = None
    schema: Mapping[str, Any] | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    missing: Missing = Missing.EMPTY
    on_bad_answer: OnBadAnswer = OnBadAnswer.KEEP
    tries: int = 3

    def terms(self) -> Mapping[str, str]:
        """What must be the same when the run goes on, by its options."""
        return {
            "--prompt": self.prompt,
            "--system": self.system or "",
            "--schema": "" if self.schema is None else _json(self.schema),
            "--param": _json(self.params) if self.params else "",
            "--missing": self.missing.value,
            "--from": self.input_format.value,
        }

    def asking(self, endpoint: str | None) -> Asking:
        """What is asked of each row. Raises `UserError` where the endpoint does not go with it."""
        return Asking(
            endpoint or CHAT,
            Template.parse(self.prompt),
            None if self.system is None else Template.parse(self.system),
            self.params,
            self.schema,
            self.missing is Missing.ERROR,
        )


def _json(value: Any) -> str:
    return msgspec.json.encode(value, order="sorted").decode()
