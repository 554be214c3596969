"""Jobs whose lines share prompt templates, and how often a prefix cache could have been hit.

The cache is the simulator's own, so that what is computed here and what it counts are the same
thing for the same order of calls.
"""

from __future__ import annotations

import json
import random
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from batchmill.engines.sim.prefixes import BLOCK_TOKENS, BYTES_PER_TOKEN, PrefixCache
from bench.inputs import MODEL

_WORDS = ("alpha", "beta", "gamma", "delta", "label", "answer", "with", "note", "claim", "parcel")
_BLOCK_BYTES = BLOCK_TOKENS * BYTES_PER_TOKEN


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines over so many templates, shuffled: which template each line has, and its texts."""

    templates: Sequence[str]
    chosen: Sequence[int]
    max_tokens: int = 8

    def question(self, number: int) -> str:
        """What line `number` asks after its template."""
        return f"Question {number:07d}: which of them?"

    def prompt(self, number: int) -> str:
        """The prompt as the simulator reads it."""
        return f"{self.templates[self.chosen[number]]}\n{self.question(number)}"

    def body(self, number: int) -> bytes:
        """The request of line `number`."""
        request = {
            "model": MODEL,
            "messages": [
                {"role": "system", "content": self.templates[self.chosen[number]]},
                {"role": "user", "content": self.question(number)},
            ],
            "max_tokens": self.max_tokens,
            "temperature": 0.0,
        }
        return json.dumps(request).encode()

    def write(self, path: Path) -> Path:
        """Write the batch file."""
        with path.open("wb") as file:
            for number in range(len(self.chosen)):
                file.write(b'{"custom_id":"%d","body":%b}\n' % (number, self.body(number)))
        return path


def shuffled(lines: int, templates: int, template_bytes: int, *, max_tokens: int = 8) -> Batch:
    """A batch in which every template has as many lines; always the same one."""
    chance = random.Random(f"{lines} {templates}")  # noqa: S311 - the same input every time
    texts = [
        f"Template {chance.getrandbits(40):012x}. "
        + " ".join(chance.choices(_WORDS, k=template_bytes // 4))
        for _ in range(templates)
    ]
    chosen = [number % templates for number in range(lines)]
    chance.shuffle(chosen)
    return Batch([text[:template_bytes] for text in texts], chosen, max_tokens)


def cache_blocks(batch: Batch, templates: int) -> int:
    """How large a cache holds so many templates with a question each."""
    return templates * (len(batch.prompt(0).encode()) // _BLOCK_BYTES)


def hits(batch: Batch, order: Iterable[int], blocks: int) -> int:
    """Cached tokens when the lines are sent in that order, one after the other."""
    cache = PrefixCache()
    for number in order:
        cache.look_up(batch.prompt(number), blocks)
    return cache.hit_tokens


def grouped(batch: Batch) -> list[int]:
    """The order of one who sees the whole job: all lines of a template, then the next."""
    return sorted(range(len(batch.chosen)), key=lambda number: batch.chosen[number])


@dataclass(frozen=True, slots=True)
class Opening:
    """Lines that were open once so many lines had been sent."""

    sent: int
    lines: range


def best_of_open(batch: Batch, openings: Sequence[Opening], held: int) -> Iterator[int]:
    """The order of one who sees the open lines alone: one whose template the cache holds while
    there is any, the template used last first; else of the template with the most open lines.

    What is opened depends on how many lines were sent, not on which: it sees just what was open.
    """
    waiting: defaultdict[int, list[int]] = defaultdict(list)
    most: Counter[int] = Counter()
    cached: OrderedDict[int, None] = OrderedDict()
    coming = sorted(openings, key=lambda opening: opening.sent)
    sent = 0
    while coming or any(most.values()):
        while coming and (coming[0].sent <= sent or not any(most.values())):
            for number in coming.pop(0).lines:
                waiting[batch.chosen[number]].append(number)
                most[batch.chosen[number]] += 1
        template = next((each for each in reversed(cached) if most[each]), None)
        if template is None:
            template = most.most_common(1)[0][0]
        cached[template] = None
        cached.move_to_end(template)
        if len(cached) > held:
            cached.popitem(last=False)
        most[template] -= 1
        sent += 1
        yield waiting[template].pop()
