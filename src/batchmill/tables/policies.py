"""What becomes of rows without a value, and of answers that are none."""

from __future__ import annotations

from enum import StrEnum


class OnBadAnswer(StrEnum):
    """What becomes of an answer that came and is none."""

    KEEP = "keep"
    RETRY = "retry"
    ERROR = "error"


class Missing(StrEnum):
    """What a row without a value in a column of the prompt is."""

    EMPTY = "empty"
    ERROR = "error"
