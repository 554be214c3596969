from __future__ import annotations

import random
import subprocess
import sys
from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmill.core.order import CUTS, KEY_BYTES, BadLine, Original, ShardOrder
from batchmill.errors import BlobMissing
from batchmill.model import LineError


def key(*texts: bytes) -> bytes:
    order = ShardOrder()
    order.add(texts, 0)
    return order.prefixes()[0]


errors = st.builds(
    LineError, st.text(), st.text(), st.none() | st.integers(1, 10**9), st.none() | st.text()
)
entries = st.tuples(
    st.lists(st.binary(max_size=20), max_size=10), st.integers(-1, 2**40)
) | st.builds(BadLine, errors, st.binary(max_size=9))


@given(st.lists(entries, max_size=20))
def test_an_order_reads_back_equal(lines: list) -> None:
    order = ShardOrder()
    for line in lines:
        if isinstance(line, BadLine):
            order.add_bad(line)
        else:
            order.add(*line)
    again = ShardOrder.decode(order.encode())
    assert again == order
    assert again.lines == len(lines)
    for local, line in enumerate(lines):
        assert again.bad.get(local) == (line if isinstance(line, BadLine) else None)
        assert len(again.prefixes()[local]) == KEY_BYTES
        assert again.prefixes()[local] == order.prefixes()[local]
        expected = 0 if isinstance(line, BadLine) or not 0 < line[1] < 2**32 else line[1]
        assert again.expected_tokens(local) == expected


originals = st.builds(Original, st.integers(0, 2**20), st.integers(0, 2**20))


@given(st.dictionaries(st.integers(0, 9), originals, max_size=5))
def test_duplicates_read_back_equal_and_cost_others_nothing(same: dict[int, Original]) -> None:
    order, without = ShardOrder(same=same), ShardOrder()
    for _ in range(10):
        order.add([b"x"], 1)
        without.add([b"x"], 1)
    assert ShardOrder.decode(order.encode()) == order
    assert len(order.encode()) == len(without.encode()) + 12 * len(same)
    assert (order.encode()[:4] == b"BMO1") == (not same), "older workers read what has none"


@given(st.data())
def test_a_damaged_order_is_missing(data: st.DataObject) -> None:
    order = ShardOrder()
    order.add([b"x"], 1)
    order.add_bad(BadLine(LineError("a", "b")))
    if data.draw(st.booleans()):
        order.same[0] = Original(0, 1)
    whole = order.encode()
    cut = data.draw(st.integers(0, len(whole) - 1))
    for damaged in (whole[:cut], whole + b"x", b"X" + whole[1:]):
        with pytest.raises(BlobMissing):
            ShardOrder.decode(damaged)


def test_a_thousand_lines_take_about_twenty_bytes_each() -> None:
    order = ShardOrder()
    for n in range(1000):
        order.add([b"system", b"user %d" % n], 100)
    assert len(order.encode()) < 20_100


def test_lines_with_equal_beginnings_have_keys_with_equal_beginnings() -> None:
    system, long = b"s" * 100, b"l" * 5000
    assert key(system, b"a")[:2] == key(system, b"b")[:2]
    assert key(system, b"a") != key(system, b"b")
    assert key(system, long + b"a")[:8] == key(system, long + b"b")[:8]
    assert key(b"t" * 300 + b"a")[:2] == key(b"t" * 300 + b"b")[:2]
    assert key(b"x", system)[:2] != key(b"y", system)[:2]
    assert key() == bytes(KEY_BYTES)


def test_a_boundary_is_nested_in_those_before_it() -> None:
    assert key(b"a", b"same")[2:4] != key(b"b", b"same")[2:4]


def test_a_very_long_prompt_fills_the_key_and_no_more() -> None:
    assert len(key(*[b"x" * 2 * CUTS[-1]] * 9)) == KEY_BYTES


@given(st.lists(st.integers(0, 2), min_size=2, max_size=60))
def test_sorting_by_key_puts_common_prefixes_together(choices: list[int]) -> None:
    """Each template, and within it each document, is one run of the sorted lines."""
    lines = [(n % 5, choice) for n, choice in enumerate(choices)]
    random.Random(1).shuffle(lines)
    prompts = [
        (b"template %d" % t, b"document %d " % d * 40, b"q%d" % n) for n, (t, d) in enumerate(lines)
    ]
    ordered = sorted(prompts, key=lambda prompt: key(*prompt))
    for depth in (1, 2):
        heads = [prompt[:depth] for prompt in ordered]
        runs = [head for n, head in enumerate(heads) if n == 0 or heads[n - 1] != head]
        assert len(runs) == len(set(heads))


def cache_hits(prompts: list[bytes], blocks: int, block_bytes: int = 64) -> int:
    """Hits of a prefix cache that keeps the blocks used last."""
    cache: OrderedDict[bytes, None] = OrderedDict()
    hits = 0
    for prompt in prompts:
        for end in range(block_bytes, len(prompt) + 1, block_bytes):
            if prompt[:end] in cache:
                cache.move_to_end(prompt[:end])
                hits += 1
            else:
                cache[prompt[:end]] = None
                if len(cache) > blocks:
                    cache.popitem(last=False)
    return hits


@pytest.mark.parametrize("templates", [50, 400])
@pytest.mark.parametrize("template_bytes", [150, 700])
@pytest.mark.parametrize("system", [b"", b"You label texts. " * 20])
def test_shuffled_templates_hit_a_cache_nearly_as_often_as_sorted_prompts(
    templates: int, template_bytes: int, system: bytes
) -> None:
    chance = random.Random(5)
    words = [b"alpha", b"beta", b"gamma", b"label", b"answer", b"text", b"with", b"the"]

    def text(size: int) -> bytes:
        return b" ".join(chance.choices(words, k=size // 5))[:size]

    heads = [text(template_bytes) for _ in range(templates)]
    users = [chance.choice(heads) + text(200) for _ in range(1500)]
    chosen = sorted(users, key=lambda user: key(*filter(None, [system, user])))
    found, best = (
        cache_hits([system + user for user in order], 300) for order in (chosen, sorted(users))
    )
    assert found >= 0.95 * best


def test_keys_are_the_same_in_every_process() -> None:
    script = (
        "from batchmill.core.order import ShardOrder\n"
        "order = ShardOrder(); order.add([b'system', b'x' * 999], 0)\n"
        "print(order.prefixes()[0].hex())"
    )
    found = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": "7"},
    )
    assert found.stdout.strip() == key(b"system", b"x" * 999).hex()
