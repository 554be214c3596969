"""The answer in a result line of Mistral's form, and what is wrong with one that came.

A bad answer came whole and is still none: it was cut off, it is empty, the model declined, or it
does not follow the schema.
"""

from __future__ import annotations

import importlib
import math
import struct
from base64 import b64decode
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from batchmill.client.answers import said
from batchmill.errors import UserError
from batchmill.jsontext import value_of
from batchmill.tables.requests import CHAT

_SHOWN: Final = 200
_VECTORS: Final = "/v1/embeddings"
_IN_WORDS: Final = (CHAT, "/v1/responses", "/v1/completions", "/v1/fim/completions")


class Standing(StrEnum):
    """What stands in a row's `status`."""

    OK = "ok"
    FAILED = "failed"
    TRUNCATED = "truncated"
    EMPTY = "empty"
    REFUSAL = "refusal"
    INVALID_SCHEMA = "invalid_schema"

    @property
    def is_bad(self) -> bool:
        """It was answered, and not as it should be."""
        return self not in (Standing.OK, Standing.FAILED)


class Counts(Struct, frozen=True, gc=False):
    """An engine's own figures."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None


class Answer(Struct, frozen=True, gc=False):
    """What came of one row. `response` is a text, or for embeddings a list of numbers."""

    number: int
    status: Standing
    response: str | list[float] | None = None
    error: str | None = None
    usage: Counts | None = None


class _Response(Struct, gc=False):
    status_code: int = 0
    body: Raw = Raw(b"null")


class _Error(Struct, gc=False):
    message: str | None = None
    code: str | int | None = None
    status_code: int | None = None


class _Line(Struct, gc=False):
    response: _Response | None = None
    error: _Error | None = None


class _Choice(Struct, gc=False):
    """Its form alone: what it says is read by `said`."""

    message: dict[str, Raw] | None = None
    text: str | None = None


class _Datum(Struct, gc=False):
    embedding: Raw = Raw(b"null")


class _Body(Struct, gc=False):
    choices: list[_Choice] = []
    data: list[_Datum] = []
    results: Raw = Raw(b"")
    usage: Raw = Raw(b"null")


class _Numbered(Struct, gc=False):
    custom_id: str


_LINE = msgspec.json.Decoder(_Line)
_NUMBERED = msgspec.json.Decoder(_Numbered)
_BODY = msgspec.json.Decoder(_Body)
_VECTOR = msgspec.json.Decoder(list[float] | str | None)
_LARGEST: Final = 2**63 - 1
"""Of the whole numbers that every kind of table can hold."""

_ENDINGS: Final[Mapping[str, Standing]] = {
    "length": Standing.TRUNCATED,
    "model_length": Standing.TRUNCATED,
    "max_output_tokens": Standing.TRUNCATED,
    "incomplete": Standing.TRUNCATED,
    "content_filter": Standing.REFUSAL,
}

Check = Callable[[str], str | None]
"""What is wrong with an answer by a schema; None: nothing."""


def number_of(line: bytes) -> int:
    """Which row a result line is of. Raises `ValueError` where its request could not be read."""
    return int(_NUMBERED.decode(line).custom_id)


class Reader:
    """Reads the result lines of one endpoint; `check` is the schema's, where there is one."""

    def __init__(self, endpoint: str, check: Check | None = None) -> None:
        self._endpoint, self._check = endpoint, check

    def read(self, line: bytes, number: int) -> Answer:
        """The answer in the result line of the row with that number."""
        result = _LINE.decode(line)
        if result.error is not None or result.response is None:
            return Answer(number, Standing.FAILED, error=_said(result))
        raw = bytes(result.response.body)
        try:
            body = _BODY.decode(raw)
        except (ValueError, RecursionError):
            return self._formless(number, raw.decode())
        usage = _counts(value_of(body.usage))
        response, status, problem = self._judged(body, raw)
        return Answer(number, status, response, problem, usage)

    def _formless(self, number: int, text: str) -> Answer:
        """An answer of no known form: only where any JSON is one does it count as one."""
        problem = "the answer is of no known form"
        if self._endpoint == _VECTORS:
            return Answer(number, Standing.EMPTY, error=problem)
        if self._endpoint in _IN_WORDS or self._check is not None:
            return Answer(number, Standing.EMPTY, text, problem)
        return Answer(number, Standing.OK, text)

    def _judged(
        self, body: _Body, raw: bytes
    ) -> tuple[str | list[float] | None, Standing, str | None]:
        if self._endpoint == _VECTORS:
            vector, problem = _vector(body)
            return vector, Standing.EMPTY if problem else Standing.OK, problem
        text, finish, refusal = _words(body, raw, self._endpoint)
        if refusal is not None:
            return refusal, Standing.REFUSAL, "the model declined"
        if (standing := _ENDINGS.get(finish or "")) is not None:
            return text, standing, f"the answer ended with {finish!r}"
        if not text or not text.strip():
            return text, Standing.EMPTY, "the answer is empty"
        problem = self._check(text) if self._check else None
        return text, Standing.INVALID_SCHEMA if problem else Standing.OK, problem


def _said(result: _Line) -> str:
    error = result.error or _Error()
    code = error.code or (result.response.status_code if result.response else None)
    return f"{code}: {error.message}" if code else str(error.message)


def _counts(usage: object) -> Counts | None:
    if not isinstance(usage, dict):
        return None
    sent, made = (
        _whole(usage.get(chat, usage.get(other)))
        for chat, other in (
            ("prompt_tokens", "input_tokens"),
            ("completion_tokens", "output_tokens"),
        )
    )
    return Counts(sent, made, _whole(usage.get("total_tokens")))


def _whole(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= _LARGEST else None


def _vector(body: _Body) -> tuple[list[float] | None, str | None]:
    """The first embedding, and what is wrong with it. In base64 stand floats of four bytes, as
    OpenAI's API sends them."""
    try:
        found = _VECTOR.decode(body.data[0].embedding) if body.data else None
        if isinstance(found, str):
            packed = b64decode(found, validate=True)
            found = list(struct.unpack(f"<{len(packed) // 4}f", packed))
    except (ValueError, RecursionError, struct.error):
        return None, "the embedding is neither a list of numbers nor floats in base64"
    if not found:
        return None, "there is no embedding"
    if not all(map(math.isfinite, found)):
        return None, "the embedding has numbers that are none"
    return found, None


def _words(body: _Body, raw: bytes, endpoint: str) -> tuple[str | None, str | None, str | None]:
    """The text of an answer, why it ended, and what the model said where it declined."""
    if body.choices or endpoint in {CHAT, "/v1/responses"}:
        words = said(value_of(raw))
        return words.text, words.ending, words.refusal or None
    return bytes(body.results).decode() or raw.decode(), None, None


def check_by(schema: Mapping[str, Any]) -> Check:
    """A check by that JSON Schema. Raises `UserError` where it is none, or an extra is missing."""
    try:
        library = importlib.import_module("jsonschema_rs")
    except ImportError:
        message = "--schema needs an extra to check answers: pip install 'batchmill[data]'."
        raise UserError(message) from None
    try:
        validator = library.validator_for(dict(schema))
    except (ValueError, library.ReferencingError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"--schema is no JSON Schema that can be used: {reason}.") from error

    def check(text: str) -> str | None:
        try:
            value = value_of(text.encode())
        except ValueError:
            return "the answer is not JSON"
        error = next(iter(validator.iter_errors(value)), None)
        if error is None:
            return None
        where = "/".join(map(str, error.instance_path))
        message = str(error.message)[:_SHOWN]
        return f"{where}: {message}" if where else message

    return check
