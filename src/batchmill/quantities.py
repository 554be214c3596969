"""Durations and sizes as people write them: `10m`, `1h30m`, `250ms`, `96MB`, `4MiB`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Final

from pydantic import BeforeValidator, PlainSerializer

_SECONDS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES: Final = {
    "": 1,
    "B": 1,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
    "KIB": 1024,
    "MIB": 1024**2,
    "GIB": 1024**3,
    "TIB": 1024**4,
}
_DURATION_PIECE = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)")


def parse_duration(text: object) -> timedelta:
    """`10m`, `1h30m`, `250ms`, or a number of seconds. Raises `ValueError` for anything else."""
    if isinstance(text, timedelta):
        return text
    written = _written(text)
    pieces = _DURATION_PIECE.findall(written)
    if written.replace(".", "", 1).isdecimal():
        pieces = [(written, "s")]
    elif not pieces or _DURATION_PIECE.sub("", written):
        raise ValueError('should be a duration such as "250ms", "30s", "10m", "2h" or "7d"')
    try:
        return timedelta(seconds=sum(float(number) * _SECONDS[unit] for number, unit in pieces))
    except OverflowError:
        raise ValueError("is longer than a duration can be") from None


def parse_size(text: object) -> int:
    """`96MB`, `4MiB`, `512kB`, or a number of bytes. Raises `ValueError` for anything else."""
    match = _SIZE.fullmatch(_written(text))
    if match is None or match[2].upper() not in _BYTES:
        raise ValueError('should be a size such as "64kB", "96MB" or "4GiB"')
    return round(float(match[1]) * _BYTES[match[2].upper()])


def _written(value: object) -> str:
    """What a person wrote; true and false are not numbers."""
    return "" if isinstance(value, bool) else str(value).strip()


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(timedelta.total_seconds, return_type=float, when_used="json"),
]
"""A pydantic field that takes a written duration; in JSON a number of seconds."""

SizeBytes = Annotated[int, BeforeValidator(parse_size)]
"""A pydantic field that takes a written size."""
