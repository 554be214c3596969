"""How much is measured: everything, or little enough to be done in two minutes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """The sizes of one run of all measurements."""

    name: str
    rounds: int
    wrk_seconds: int
    lines: int
    """Of a job in each round."""
    loop: int
    """Lines in each loop of a part alone."""
    few_lines: int
    many_lines: int
    large_replies: int
    upload_lines: int
    slow_lines: int
    left_lines: int
    peer_lines: int
    intake_lines: int
    intake_rounds: int
    first_calls: int
    open_shards: int
    """Of each of the open jobs among which a claim chooses."""


FULL = Scale(
    name="full",
    rounds=5,
    wrk_seconds=4,
    lines=40_000,
    loop=30_000,
    few_lines=10_000,
    many_lines=1_000_000,
    large_replies=2_000,
    upload_lines=1_000_000,
    slow_lines=50_000,
    left_lines=100_000,
    peer_lines=600,
    intake_lines=200_000,
    intake_rounds=3,
    first_calls=20,
    open_shards=1_000,
)

QUICK = Scale(
    name="quick",
    rounds=3,
    wrk_seconds=2,
    lines=15_000,
    loop=10_000,
    few_lines=10_000,
    many_lines=60_000,
    large_replies=300,
    upload_lines=100_000,
    slow_lines=15_000,
    left_lines=100_000,
    peer_lines=200,
    intake_lines=50_000,
    intake_rounds=1,
    first_calls=5,
    open_shards=50,
)
