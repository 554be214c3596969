"""A prefix cache like vLLM's: blocks of prompt tokens, chained, the least used dropped first.

Pure but for its own state.
"""

from __future__ import annotations

from collections import OrderedDict

BLOCK_TOKENS = 16
BYTES_PER_TOKEN = 4
_BLOCK_BYTES = BLOCK_TOKENS * BYTES_PER_TOKEN


def count_tokens(text: str) -> int:
    """How many tokens a text is here: one for every four bytes begun."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


class PrefixCache:
    """Which prompt prefixes were seen lately; counts its queries and hits in tokens."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[int, None] = OrderedDict()
        self.queried_tokens = 0
        self.hit_tokens = 0

    def look_up(self, prompt: str, capacity_blocks: int) -> int:
        """How many leading tokens of the prompt are cached; afterwards all of them are."""
        if capacity_blocks <= 0:
            return 0
        raw = prompt.encode()
        chain = 0
        hits, hitting = 0, True
        whole = len(raw) // _BLOCK_BYTES
        for n in range(whole):
            chain = hash((chain, raw[n * _BLOCK_BYTES : (n + 1) * _BLOCK_BYTES]))
            if chain in self._blocks:
                self._blocks.move_to_end(chain)
                hits += hitting
            else:
                hitting = False
                self._blocks[chain] = None
        while len(self._blocks) > capacity_blocks:
            self._blocks.popitem(last=False)
        self.queried_tokens += whole * BLOCK_TOKENS
        self.hit_tokens += hits * BLOCK_TOKENS
        return hits * BLOCK_TOKENS
