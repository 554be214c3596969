"""How much text a file of lines sends, and, with a tokenizer, how many tokens that is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from batchmill.cli.checks import LocalFile
from batchmill.cli.exits import USAGE, Failure

Tokenizer = Callable[[str], int]
MAX_MODELS: Final = 20
_LIMITS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_TEXTS: Final = frozenset({"content", "text", "input", "prompt", "suffix", "instructions"})
_DEEPEST: Final = 12


@dataclass(slots=True)
class Counted:
    """What a file sends. `most_output` is None where a line does not say how much may come;
    `textless` lines send only what cannot be counted, such as images."""

    lines: int = 0
    textless: int = 0
    prompt_bytes: int = 0
    tokens: int | None = None
    most_output: int | None = 0
    models: set[str] = field(default_factory=set)


def count(file: LocalFile, tokenizer: Tokenizer | None = None) -> Counted:
    """Count the file's lines and texts. Lines that cannot be read count, and send nothing."""
    counted = Counted(tokens=0 if tokenizer else None)
    file.content.seek(0)
    for raw in file.content:
        if raw.strip():
            _count_line(raw, counted, tokenizer)
    return counted


def open_tokenizer(path: str) -> Tokenizer:
    """The tokenizer of a `tokenizer.json`. Raises `Failure`."""
    try:
        import tokenizers  # type: ignore[import-not-found,unused-ignore] # noqa: PLC0415 - optional
    except ImportError:
        raise Failure("--tokenizer needs the package tokenizers: install it", USAGE) from None
    try:
        read = tokenizers.Tokenizer.from_file(path)
    except Exception as error:
        raise Failure(f"{path} is no tokenizer.json: {error}", USAGE) from error
    return lambda text: len(read.encode(text).ids)


def texts_in(value: Any, name: str = "", depth: int = 0) -> Iterator[str]:
    """The texts of a body that an engine reads as a prompt."""
    if depth > _DEEPEST:
        return
    if isinstance(value, str):
        if name in _TEXTS:
            yield value
    elif isinstance(value, list):
        for each in value:
            yield from texts_in(each, name, depth + 1)
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from texts_in(each, key, depth + 1)


def _count_line(raw: bytes, counted: Counted, tokenizer: Tokenizer | None) -> None:
    counted.lines += 1
    try:
        line = msgspec.json.decode(raw.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    body = line.get("body") if isinstance(line, dict) else None
    if not isinstance(body, dict):
        return
    model = body.get("model")
    if isinstance(model, str) and len(counted.models) < MAX_MODELS:
        counted.models.add(model)
    before = counted.prompt_bytes
    for text in texts_in(body):
        counted.prompt_bytes += len(text.encode(errors="replace"))
        if tokenizer is not None and counted.tokens is not None:
            counted.tokens += tokenizer(text)
    counted.textless += counted.prompt_bytes == before
    limits = [body[name] for name in _LIMITS if isinstance(body.get(name), int)]
    if not limits:
        counted.most_output = None
    elif counted.most_output is not None:
        counted.most_output += limits[0]
