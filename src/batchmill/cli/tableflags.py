"""What the flags of `batchmill run` say of a table, as `TableWanted`.

`@file` stands for the text of that file. A value of `--param` is JSON where it can be read as that,
else a text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from batchmill.app.run.tablewanted import TableWanted
from batchmill.app.run.targets import shown
from batchmill.errors import ConfigError, Problem
from batchmill.tables.policies import Missing, OnBadAnswer
from batchmill.tables.rows import Format, format_of

_TABLES = frozenset(Format) - {Format.JSONL}
"""Formats that nothing but a table has."""


@dataclass(frozen=True, slots=True)
class TableFlags:
    """The flags as they were given."""

    prompt: str | None = None
    system: str | None = None
    schema: str | None = None
    params: Sequence[str] = field(default_factory=list)
    missing: Missing | None = None
    on_bad_answer: OnBadAnswer | None = None
    input_format: Format | None = None
    output_format: Format | None = None

    def given(self) -> list[str]:
        """Those that only go with a prompt."""
        flags = {
            "--system": self.system,
            "--schema": self.schema,
            "--param": self.params or None,
            "--missing": self.missing,
            "--on-bad-answer": self.on_bad_answer,
            "--from": self.input_format,
            "--to": self.output_format,
        }
        return [flag for flag, value in flags.items() if value is not None]


def table_of(flags: TableFlags, input: str, output: str, errors: str | None) -> TableWanted | None:
    """What is asked of each row; None where the input is a batch file. Raises `ConfigError` where
    the flags do not go together."""
    by_name = format_of(shown(input))
    if flags.prompt is None:
        if by_name in _TABLES:
            raise _wrong(
                "--prompt",
                f"is needed for a table such as {shown(input)}: what to ask "
                "of each row, such as 'Classify: {{column}}'",
            )
        if flags.given():
            raise _wrong(flags.given()[0], "goes with --prompt, for a table of rows")
        return None
    if errors is not None:
        raise _wrong("--errors", "is for batch files; a table says of each row how it stands")
    input_format = flags.input_format or by_name
    if input_format is None:
        raise _wrong("--from", f"is needed: the name of {shown(input)} does not say its format")
    output_format = flags.output_format or format_of(shown(output)) or Format.JSONL
    return TableWanted(
        _text(flags.prompt, "--prompt"),
        input_format,
        output_format,
        None if flags.system is None else _text(flags.system, "--system"),
        None if flags.schema is None else _object(flags.schema, "--schema"),
        _params(flags.params),
        flags.missing or Missing.EMPTY,
        flags.on_bad_answer or OnBadAnswer.KEEP,
    )


def _wrong(flag: str, message: str) -> ConfigError:
    return ConfigError([Problem(flag, message)])


def _text(value: str, flag: str) -> str:
    """The text, read from its file where it is `@file`."""
    if not value.startswith("@"):
        return value
    path = Path(value[1:])
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise _wrong(flag, f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise _wrong(flag, f"{path} is not UTF-8") from error


def _object(value: str, flag: str) -> Mapping[str, Any]:
    """The JSON object in a file, or written out."""
    text = _text(value if value.startswith(("@", "{")) else f"@{value}", flag)
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (ValueError, RecursionError) as error:
        raise _wrong(flag, f"{value} is no JSON object: {error}") from error


def _params(given: Sequence[str]) -> dict[str, Any]:
    params: dict[str, Any] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise _wrong("--param", f"{each!r} should be written name=value")
        if name in ("model", "stream", "messages", "input", "prompt"):
            raise _wrong("--param", f"{name} is set by the run itself")
        params[name] = _value(_text(value, "--param"))
    return params


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return text
