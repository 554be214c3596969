"""How the time of a stop is shared out: `drain_time` in all, from SIGTERM to the last process.

notice    the API still answers, but /readyz says no more     (only `serve --role api`)
requests  requests at hand come to their end
flights   calls to engines land; then what they brought is made durable, and leases released
engines   embedded engines end
"""

from __future__ import annotations

from typing import Final

from batchmill.config import Settings
from batchmill.core.rules import HAND_OVER_SECONDS
from batchmill.fleet import Role

ENGINES_SECONDS: Final = 1.0
"""For embedded engines to end, after those that call them."""
PARENT_SECONDS: Final = 0.5
ENDING_SECONDS: Final = 1.0
"""For a process to end once it has done what it had to."""
LONGEST_NOTICE_SECONDS: Final = 5.0
NOTICE_SHARE: Final = 0.25


def children_seconds(settings: Settings) -> float:
    """How long the API and the worker may take to end."""
    return settings.drain_time.total_seconds() - ENGINES_SECONDS - PARENT_SECONDS


def flights_seconds(settings: Settings) -> float:
    """How long calls in flight may take to land."""
    return children_seconds(settings) - HAND_OVER_SECONDS - ENDING_SECONDS


def notice_seconds(settings: Settings) -> float:
    """How long the API goes on taking requests after it was asked to end, so that whoever shares
    them out can learn of it. One without other API processes beside it ends at once."""
    if settings.role is Role.ALL:
        return 0.0
    return min(settings.drain_time.total_seconds() * NOTICE_SHARE, LONGEST_NOTICE_SECONDS)


def requests_seconds(settings: Settings) -> float:
    """How long requests may take to end after that."""
    return children_seconds(settings) - notice_seconds(settings) - ENDING_SECONDS
