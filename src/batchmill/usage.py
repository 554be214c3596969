"""Tokens, as engines count them."""

from __future__ import annotations

from collections.abc import Collection

from msgspec import Struct


class Usage(Struct, frozen=True, gc=False):
    """Token counts as engines report them; a sum over lines, or one line's own."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0


def total(usages: Collection[Usage]) -> Usage:
    """The sum of many."""
    return Usage(
        sum([usage.input_tokens for usage in usages]),
        sum([usage.output_tokens for usage in usages]),
        sum([usage.cached_tokens for usage in usages]),
        sum([usage.reasoning_tokens for usage in usages]),
    )


NO_USAGE = Usage()
"""The default, so that what has none is known without a look."""
