"""The keys that validation writes tell templates apart, however a request spells its prompt."""

from __future__ import annotations

import json
import random
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest

from batchmill.core.decode import glance
from batchmill.core.order import ShardOrder

LINES, TEMPLATES = 600, 40
BLOCK_BYTES = 64
_WORDS = ["alpha", "beta", "gamma", "label", "answer", "text", "with", "note"]

Shape = Callable[[str, str], dict[str, Any]]


def text(of: str, size: int) -> str:
    chance = random.Random(of)
    return " ".join(chance.choices(_WORDS, k=size))[:size]


COMMON = text("common", 1500)


def chat(*contents: Any, **others: Any) -> dict[str, Any]:
    roles = ["system", *["user", "assistant"] * len(contents)]
    messages = [{"role": r, "content": c} for r, c in zip(roles, contents, strict=False)]
    return {**others, "messages": messages}


SHAPES: dict[str, Shape] = {
    "a system prompt for each": lambda head, ask: chat(text(head, 800), ask),
    "a long system prompt with a short tail": lambda head, ask: chat(COMMON + text(head, 400), ask),
    "a number in a long system prompt": lambda head, ask: chat(f"Agent {head:0>5}. {COMMON}", ask),
    "a document before the question": lambda head, ask: chat("Answer.", text(head, 3000) + ask),
    "instructions, a document, the question": lambda head, ask: chat(
        "Answer.", COMMON + text(head, 3000) + ask
    ),
    "few-shot examples": lambda head, ask: chat(
        COMMON, *(text(f"{head} {n}", 90) for n in range(6)), ask
    ),
    "content in parts": lambda head, ask: chat(
        "Answer.",
        [{"type": "text", "text": text(head, 900)}, {"type": "text", "text": ask}],
    ),
    "a prompt of completions": lambda head, ask: {"prompt": text(head, 700) + ask},
    "instructions and an input": lambda head, ask: {"instructions": text(head, 700), "input": ask},
    "a list of inputs": lambda head, ask: {
        "input": [{"role": "user", "content": text(head, 700)}, {"role": "user", "content": ask}]
    },
    "inputs of a conversation": lambda head, ask: {"instructions": text(head, 700), "inputs": ask},
    "tools": lambda head, ask: chat(
        COMMON, ask, tools=[{"type": "function", "function": {"name": text(head, 400)}}]
    ),
    "a format for the answer": lambda head, ask: chat(
        COMMON, ask, response_format={"type": "json_schema", "json_schema": text(head, 400)}
    ),
}


def key(body: bytes) -> bytes:
    line = glance(b'{"custom_id":"a","body":%b}' % body)
    assert line is not None
    order = ShardOrder()
    order.add(line.body.prompt_texts(), 0)
    return order.prefixes()[0]


def hits(prompts: list[bytes]) -> int:
    """Blocks found in a cache that holds about four of these prompts."""
    cache: OrderedDict[bytes, None] = OrderedDict()
    found = 0
    for prompt in prompts:
        for end in range(BLOCK_BYTES, len(prompt) + 1, BLOCK_BYTES):
            found += prompt[:end] in cache
            cache[prompt[:end]] = None
            cache.move_to_end(prompt[:end])
        while len(cache) > 4 * len(prompts[0]) // BLOCK_BYTES:
            cache.popitem(last=False)
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_lines_sorted_by_key_hit_a_small_cache_nearly_as_often_as_sorted_prompts(
    shape: str,
) -> None:
    chance = random.Random(shape)
    bodies = [
        json.dumps(
            SHAPES[shape](str(chance.randrange(TEMPLATES)), f"Question {n} of many?")
        ).encode()
        for n in range(LINES)
    ]
    found, best, unsorted = hits(sorted(bodies, key=key)), hits(sorted(bodies)), hits(bodies)
    assert found >= 0.95 * best
    assert unsorted < 0.95 * best
