"""How many tokens of output the lines of a job are likely to have, learnt from its own answers.

A line is likely to be as long as others that begin alike; where none did, as those that allow as
many tokens; where there are none, as all of the job. `max_tokens` alone says little: it is an upper
bound. Pure but for its own state.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence

from batchmill.core.order import KEY_BYTES
from batchmill.core.work import OpenLine
from batchmill.model import JobId

ANSWERS = 1024
"""So many of a job's answers are remembered, the newest."""
JOBS = 64
"""Of so many jobs, those that came last."""
ENOUGH = 2
"""So many lines that began alike say how long the next one will be."""

Answer = tuple[bytes, int, int]
"""The key of a line, how many tokens it allowed (0: not said), how many its answer had."""


class Lengths:
    """What the answers of the jobs at hand had, per job."""

    def __init__(self) -> None:
        self._answers: dict[JobId, deque[Answer]] = {}

    def learn(self, line: OpenLine, tokens: int) -> None:
        """The line's answer had so many tokens."""
        answers = self._answers.get(line.shard.job.id)
        if answers is None:
            if len(self._answers) >= JOBS:
                del self._answers[next(iter(self._answers))]
            answers = self._answers[line.shard.job.id] = deque(maxlen=ANSWERS)
        answers.append((line.prefix, line.allowed_tokens, tokens))

    def ranks(self, lines: Sequence[OpenLine]) -> list[int]:
        """A rank for each line of one job: the longer it is likely to be, the higher. Lines of
        about the same length, within a factor of two, have the same."""
        if not lines:
            return []
        answers = self._answers.get(lines[0].shard.job.id, ())
        asked = [(line.prefix, line.allowed_tokens) for line in lines]
        return [tokens.bit_length() for tokens in expected(asked, answers)]


def expected(asked: Sequence[tuple[bytes, int]], answers: Iterable[Answer]) -> list[int]:
    """How many tokens the answers to lines with that key and allowance are likely to have."""
    sums: defaultdict[bytes | int, list[int]] = defaultdict(lambda: [0, 0])
    for key, allowed, tokens in answers:
        for like in _likes(key, allowed):
            sums[like][0] += 1
            sums[like][1] += tokens
    return [_expected(key, allowed, sums) for key, allowed in asked]


def _expected(key: bytes, allowed: int, sums: defaultdict[bytes | int, list[int]]) -> int:
    for like in _likes(key, allowed):
        if like in sums and sums[like][0] >= ENOUGH:
            lines, tokens = sums[like]
            found = round(tokens / lines)
            return min(found, allowed) if allowed else found
    return allowed


def _likes(key: bytes, allowed: int) -> Iterable[bytes | int]:
    """What a line has in common with others, the most telling first."""
    for end in range(KEY_BYTES, 0, -2):
        if key[end - 2 : end].strip(b"\0"):
            yield key[:end]
    yield allowed.bit_length()
    yield -1
