"""The request that is made of a row: a line of Mistral's form, its row number as custom_id."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from batchmill.errors import UserError
from batchmill.tables.rows import Names, Row
from batchmill.template import Template

CHAT: Final = "/v1/chat/completions"
_SCHEMA_NAME: Final = "answer"

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asking:
    """What is asked of each row: the prompt, what stands before it, and what else goes into the
    body. `schema` is the JSON Schema that answers are asked to follow."""

    endpoint: str
    prompt: Template
    system: Template | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    schema: Mapping[str, Any] | None = None
    refuses_missing: bool = False

    def __post_init__(self) -> None:
        if self.endpoint not in _BODIES:
            known = ", ".join(sorted(_BODIES))
            message = f"A table cannot be sent to {self.endpoint}; there are {known}."
            raise UserError(message)
        if self.system is not None and self.endpoint not in _WITH_SYSTEM:
            raise UserError(f"{self.endpoint} takes no --system; put it into the --prompt.")
        if self.schema is not None and self.endpoint not in _WITH_SYSTEM:
            raise UserError(f"{self.endpoint} takes no --schema; it is for answers in words.")

    @property
    def columns(self) -> Names:
        """The columns that it needs."""
        of_system = self.system.columns if self.system else ()
        return tuple(dict.fromkeys((*self.prompt.columns, *of_system)))

    def line(self, number: int, row: Row) -> bytes:
        """The line of the row with that number, counted from 1. Raises `UserError` where a value
        is missing and must not be."""
        if self.refuses_missing and (column := self._missing(row)) is not None:
            raise UserError(
                f"Row {number} has no value in the column {column!r}. Fill it in, or let missing "
                "values be empty with --missing empty."
            )
        body = self._body(row)
        return msgspec.json.encode({"custom_id": str(number), "body": body}) + b"\n"

    def _missing(self, row: Row) -> str | None:
        of_system = self.system.missing(row) if self.system else None
        return self.prompt.missing(row) or of_system

    def _body(self, row: Row) -> Body:
        system = self.system.fill(row) if self.system else None
        body = _BODIES[self.endpoint](self.prompt.fill(row), system)
        if self.schema is not None:
            body |= _format(self.endpoint, self.schema)
        return {**body, **self.params} if self.params else body


def _chat(prompt: str, system: str | None) -> Body:
    messages = [{"role": "user", "content": prompt}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    return {"messages": messages}


def _responses(prompt: str, system: str | None) -> Body:
    return {"input": prompt} if system is None else {"instructions": system, "input": prompt}


def _prompt(prompt: str, _system: str | None) -> Body:
    return {"prompt": prompt}


def _input(prompt: str, _system: str | None) -> Body:
    return {"input": prompt}


def _messages(prompt: str, _system: str | None) -> Body:
    return {"input": [{"role": "user", "content": prompt}]}


_BODIES: Final[Mapping[str, Callable[[str, str | None], Body]]] = {
    CHAT: _chat,
    "/v1/responses": _responses,
    "/v1/completions": _prompt,
    "/v1/fim/completions": _prompt,
    "/v1/embeddings": _input,
    "/v1/moderations": _input,
    "/v1/classifications": _input,
    "/v1/chat/moderations": _messages,
    "/v1/chat/classifications": _messages,
}
_WITH_SYSTEM: Final = (CHAT, "/v1/responses")


def _format(endpoint: str, schema: Mapping[str, Any]) -> Body:
    """How the endpoint is asked to follow a schema."""
    named = {"name": _SCHEMA_NAME, "schema": schema, "strict": True}
    if endpoint == CHAT:
        return {"response_format": {"type": "json_schema", "json_schema": named}}
    return {"text": {"format": {"type": "json_schema", **named}}}
