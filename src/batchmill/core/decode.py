"""What makes an input line good, and what is wrong with one that is not. Pure.

`glance` reads the good line that clients write, in about half a microsecond, and gives up on
anything else; `decode` takes its time and names the error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
from msgspec import Raw, Struct

from batchmill.core.lines import LineRules
from batchmill.jsontext import is_json, is_utf8, without_lone_surrogates
from batchmill.model import Dialect, Job, LineError

NEEDS_MESSAGES = "/v1/chat/completions"
_SHOWN = 80
_LONG_NUMBER = 12
_ABSENT = Raw(b"")
_GUARDED = (b'"custom_id"', b'"body"', b'"model"', b'"stream"')
_EXPECTED = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_KINDS = {
    b"{": "an object",
    b"[": "an array",
    b'"': "a string",
    b"t": "a boolean",
    b"f": "a boolean",
    b"n": "null",
}
_SPELT_OUT = re.compile(rb"\\u00(?:5[fF]|6[1-9a-fA-F]|7[0-9aA])")


class Body(Struct, gc=False):
    """What validation and the dispatch order look at in a body."""

    model: str | None = None
    stream: bool | None = None
    messages: list[Raw] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    tools: Raw = _ABSENT
    response_format: Raw = _ABSENT
    instructions: Raw = _ABSENT
    prompt: Raw = _ABSENT
    input: Raw = _ABSENT
    inputs: Raw = _ABSENT

    def expected_tokens(self) -> int:
        """How many tokens of output it allows; 0 where it does not say."""
        return self.max_tokens or self.max_completion_tokens or self.max_output_tokens or 0

    def prompt_texts(self) -> Sequence[Raw]:
        """The prompt as an engine reads it, in order, in pieces that other lines may share."""
        texts = self.messages
        if texts is None:
            texts = _pieces(self.prompt or self.input or self.inputs)
        if self.tools or self.response_format or self.instructions:
            heads = (self.tools, self.response_format, self.instructions)
            return [text for text in heads if text] + texts
        return texts


class InputLine(Struct, gc=False):
    """A good line."""

    custom_id: str
    body: Body
    method: str | None = None
    url: str | None = None


class JudgedBody(Protocol):
    """What of a body decides whether its line is good."""

    @property
    def model(self) -> str | None: ...
    @property
    def stream(self) -> bool | None: ...
    @property
    def messages(self) -> object | None: ...


class JudgedLine(Protocol):
    """What of a line decides whether it is good."""

    @property
    def body(self) -> JudgedBody: ...
    @property
    def method(self) -> str | None: ...
    @property
    def url(self) -> str | None: ...


_LINE = msgspec.json.Decoder(InputLine)
_MEMBERS = msgspec.json.Decoder(dict[str, Raw])
_PIECES = msgspec.json.Decoder(list[Raw])
_VALUE = msgspec.json.Decoder()


@dataclass(frozen=True, slots=True)
class LineForm:
    """What the lines of one job must look like.

    `names_url`: method and url are required and must fit. `names_model`: each line runs on the
    model in its own body, which must be one that `can_serve` knows.
    """

    endpoint: str
    names_url: bool
    names_model: bool
    needs_messages: bool
    can_serve: Callable[[str], bool]
    max_line_bytes: int

    @classmethod
    def of(cls, job: Job, rules: LineRules) -> LineForm:
        """The form of that job's lines under these rules."""
        is_openai = job.dialect is Dialect.OPENAI
        return cls(
            endpoint=job.endpoint,
            names_url=is_openai,
            names_model=job.model is None and job.agent_id is None,
            needs_messages=is_openai and job.endpoint == NEEDS_MESSAGES,
            can_serve=rules.can_serve,
            max_line_bytes=rules.max_line_bytes,
        )

    def fits(self, line: JudgedLine) -> bool:
        """Whether a line that could be read has nothing wrong with it."""
        body = line.body
        if body.stream or (self.needs_messages and body.messages is None):
            return False
        if self.names_url and (line.url != self.endpoint or line.method != "POST"):
            return False
        return not self.names_model or (body.model is not None and self.can_serve(body.model))


def glance(raw: bytes) -> InputLine | None:
    """The line, if it is the usual kind; None says nothing. Does not look for repeated keys,
    nor at the UTF-8 of what it skips."""
    try:
        return _LINE.decode(raw)
    except (ValueError, RecursionError):
        return None


def glance_all(texts: list[bytes]) -> Sequence[InputLine | None]:
    """What `glance` says of each."""
    try:
        return list(map(_LINE.decode, texts))
    except (ValueError, RecursionError):
        return list(map(glance, texts))


def is_plain(data: bytes, lines: Sequence[JudgedLine | None]) -> bool:
    """Whether the bytes of these lines are UTF-8 throughout and surely repeat none of the keys
    that must stand once; where not, `decode` judges each line."""
    if not is_utf8(data) or _spells_out(data):
        return False
    models = streams = 0
    for line in lines:
        if line is None:
            return False
        models += line.body.model is not None
        streams += line.body.stream is not None
    expected = (len(lines), len(lines), models, streams)
    return all(data.count(key) == count for key, count in zip(_GUARDED, expected, strict=True))


def decode(raw: bytes, form: LineForm, physical: int) -> InputLine | LineError:
    """The line, or the first thing that is wrong with it."""
    try:
        return _decode(raw, form)
    except _Bad as bad:
        return LineError(bad.code, str(bad), physical, bad.param)


def custom_id_of(raw: bytes) -> str | None:
    """The custom_id of a line, good or bad, if it has one that can be written back."""
    try:
        custom_id = _text(_members(raw), "custom_id")
        is_clear = _repeated(raw) != "custom_id" and _is_whole(raw, custom_id)
    except _Bad:
        return None
    return custom_id if is_clear else None


def shown(text: str) -> str:
    """A string of the user's within a message: quoted, printable and not too long."""
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


class _Bad(Exception):
    """What is wrong; never leaves this module."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.param = code, param


def _decode(raw: bytes, form: LineForm) -> InputLine:
    if not raw or len(raw) > form.max_line_bytes:
        limit = f"{form.max_line_bytes:,}"
        raise _Bad("invalid_request", f"This line is too long; a line may have {limit} bytes.")
    line = _members(raw)
    if (param := _repeated(raw)) is not None:
        raise _Bad("invalid_request", f"'{param}' stands more than once in this line.", param)
    custom_id = _text(line, "custom_id")
    if not _is_whole(raw, custom_id):
        message = "custom_id has half of a surrogate pair, which is no character."
        raise _Bad("invalid_value", message, "custom_id")
    if form.names_url:
        _check_url(line, form)
    return InputLine(custom_id, _body(line, form))


def _members(raw: bytes) -> dict[str, Raw]:
    if not is_utf8(raw):
        raise _Bad("invalid_json_line", "This line is not valid UTF-8.")
    text = without_lone_surrogates(raw)
    try:
        return _MEMBERS.decode(text)
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        if is_json(text):
            message = f"This line is {_kind(text.strip())}; it must be a JSON object."
            raise _Bad("invalid_request", message) from error
        detail = str(error).removeprefix("JSON is malformed: ")
        message = f"This line is not parseable as valid JSON: {detail}."
        raise _Bad("invalid_json_line", message) from error


def _spells_out(data: bytes) -> bool:
    """Whether some letter or underscore is an escape: no client writes so, but a key may hide."""
    return b"\\" in data and b"\\u00" in data and _SPELT_OUT.search(data) is not None


def _repeated(raw: bytes) -> str | None:
    """Which of the keys that must stand once stands more than once, as a parameter's path."""
    if not _spells_out(raw) and all(raw.count(key) < 2 for key in _GUARDED):
        return None
    try:
        line = _pairs(raw)
    except RecursionError as error:
        raise _too_deep() from error
    names = [name for name, _ in line]
    for name in ("custom_id", "body"):
        if names.count(name) > 1:
            return name
    body = dict(line).get("body")
    members = [name for name, _ in body.members] if isinstance(body, _Object) else []
    for name in ("model", "stream"):
        if members.count(name) > 1:
            return f"body.{name}"
    return None


def _is_whole(raw: bytes, custom_id: str) -> bool:
    """Whether a decoded custom_id is what stands in the line, no lone surrogate replaced."""
    if without_lone_surrogates(raw) == raw:
        return True
    try:
        return dict(_pairs(raw)).get("custom_id") == custom_id
    except RecursionError as error:
        raise _too_deep() from error


@dataclass(frozen=True, slots=True)
class _Object:
    members: list[tuple[str, object]]


def _pairs(raw: bytes) -> list[tuple[str, object]]:
    """The members of a line that is known to be a JSON object, repeated ones too."""
    line = json.loads(raw.decode(), object_pairs_hook=_Object, parse_int=str, parse_float=str)
    return line.members if isinstance(line, _Object) else []


def _check_url(line: dict[str, Raw], form: LineForm) -> None:
    method, url = _text(line, "method"), _text(line, "url")
    if method != "POST":
        message = f"The method must be 'POST', not {shown(method)}."
        raise _Bad("invalid_value", message, "method")
    if url != form.endpoint:
        message = (
            f"The URL provided for this request, {shown(url)}, does not match the batch "
            f"endpoint, '{form.endpoint}'."
        )
        raise _Bad("invalid_url", message, "url")


def _body(line: dict[str, Raw], form: LineForm) -> Body:
    body = _MEMBERS.decode(_required(line, "body", "an object"))
    stream = _present(body, "stream")
    if stream == b"true":
        message = "Streaming is not supported in a batch; leave 'stream' out."
        raise _Bad("streaming_unsupported", message, "body.stream")
    if stream not in (None, b"false"):
        raise _wrong_type("body.stream", "a boolean", stream)
    model = _model(body, form) if form.names_model else None
    if form.needs_messages:
        _check_messages(body)
    return _look(body, model)


def _model(body: dict[str, Raw], form: LineForm) -> str:
    raw = _present(body, "model")
    if raw is None:
        raise _Bad("invalid_request", "Model parameter is required.", "body.model")
    model = _VALUE.decode(raw)
    if not isinstance(model, str):
        raise _wrong_type("body.model", "a string", raw)
    if not form.can_serve(model):
        message = f"The provided model {shown(model)} is not served here."
        raise _Bad("model_not_found", message, "body.model")
    return model


def _check_messages(body: dict[str, Raw]) -> None:
    messages = _present(body, "messages")
    if messages is None:
        raise _Bad("invalid_request", "Messages parameter is required.", "body.messages")
    if not messages.startswith(b"["):
        raise _wrong_type("body.messages", "an array", messages)


def _look(body: dict[str, Raw], model: str | None) -> Body:
    """What the dispatch order needs of a body whose other members may be anything."""
    return Body(
        model=model,
        messages=_pieces(body["messages"]) if "messages" in body else None,
        max_tokens=_expected(body),
        tools=body.get("tools", _ABSENT),
        response_format=body.get("response_format", _ABSENT),
        instructions=body.get("instructions", _ABSENT),
        prompt=body.get("prompt", _ABSENT),
        input=body.get("input", _ABSENT),
        inputs=body.get("inputs", _ABSENT),
    )


def _expected(body: dict[str, Raw]) -> int | None:
    for name in _EXPECTED:
        raw = _present(body, name)
        if raw is not None and raw.isdigit() and len(raw) < _LONG_NUMBER:
            return int(raw)
    return None


def _pieces(raw: Raw) -> list[Raw]:
    """An array of objects as these, any other text as one piece."""
    text = bytes(raw)
    if text.startswith(b"["):
        pieces = _PIECES.decode(text)
        if pieces and bytes(pieces[0]).startswith(b"{"):
            return pieces
    return [raw] if text else []


def _present(members: dict[str, Raw], name: str) -> bytes | None:
    """A member's text; null is the same as absent."""
    raw = bytes(members.get(name, _ABSENT))
    return None if raw in (b"", b"null") else raw


def _required(members: dict[str, Raw], name: str, kind: str) -> bytes:
    raw = _present(members, name)
    if raw is None:
        message = f"Missing required parameter: '{name}'."
        raise _Bad("missing_required_parameter", message, name)
    if _kind(raw) != kind:
        raise _wrong_type(name, kind, raw)
    return raw


def _text(members: dict[str, Raw], name: str) -> str:
    return str(_VALUE.decode(_required(members, name, "a string")))


def _kind(raw: bytes) -> str:
    return _KINDS.get(raw[:1], "a number")


def _wrong_type(param: str, kind: str, raw: bytes) -> _Bad:
    return _Bad("invalid_type", f"'{param}' must be {kind}, not {_kind(raw)}.", param)


def _too_deep() -> _Bad:
    return _Bad("invalid_json_line", "This line is nested more deeply than can be read.")
