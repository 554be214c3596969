"""Which jobs gain from more open shards (core/spread.py)."""

from __future__ import annotations

import random

from batchmill.core.order import ShardOrder
from batchmill.core.spread import Spread
from batchmill.model import JobId

JOB = JobId("a")


def shards(*templates: bytes, lines: int = 1024, seed: int = 1) -> list[list[bytes]]:
    """The keys of ten shards of lines over these templates, shuffled."""
    chance = random.Random(seed)
    return [
        keys(
            [
                (chance.choice(templates), b"question %d" % n)
                for n in range(s * lines, (s + 1) * lines)
            ]
        )
        for s in range(10)
    ]


def keys(prompts: list[tuple[bytes, bytes]]) -> list[bytes]:
    order = ShardOrder()
    for prompt in prompts:
        order.add(prompt, 0)
    return order.prefixes()


def opened(found: list[list[bytes]]) -> int:
    """How many shards of a job are opened while none of their lines is sent."""
    spread, lines = Spread(), 0
    for n, each in enumerate(found):
        spread.opened(JOB, each)
        lines += len(each)
        if not spread.gains(JOB, lines):
            return n + 1
    return len(found)


def text(seed: int) -> bytes:
    return random.Random(seed).randbytes(300).hex().encode()


def test_templates_that_stand_in_every_shard_are_worth_some_shards_and_many_of_them_all() -> None:
    assert opened(shards(*(text(n) for n in range(50)))) == 3
    assert opened(shards(*(text(n) for n in range(2000)))) == 10


def test_one_template_or_none_is_worth_no_second_shard() -> None:
    assert opened(shards(text(1))) == 1
    assert opened([keys([(text(1024 * s + n), b"q") for n in range(1024)]) for s in range(3)]) == 1


def test_a_job_that_is_sorted_already_is_worth_no_third_shard() -> None:
    found = [keys([(text(100 * s + n % 50), b"q%d" % n) for n in range(1024)]) for s in range(4)]
    assert opened(found) == 2


def test_what_gains_nothing_while_much_is_open_gains_again_when_little_is_left() -> None:
    spread = Spread()
    for each in shards(*(text(n) for n in range(50)))[:3]:
        spread.opened(JOB, each)
    assert not spread.gains(JOB, 3072)
    assert spread.gains(JOB, 1000)
    spread.keep([])
    assert not spread.gains(JOB, 1000)
