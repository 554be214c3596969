"""The slots of an engine each of which has a prompt cache of its own, as llama.cpp's.

Two calls with the same prefix that run there at once compute it twice. So each slot is given the
lines of some prefixes, one after the other: the slot that became free last takes the next line, and
the engine gives it to the slot that has the most of it cached.
"""

from __future__ import annotations

KINDS = frozenset({"llamacpp"})
"""The kinds of engines that are so."""


class Slot:
    """One call at a time."""

    __slots__ = ()


class Slots:
    """Those that are free, the latest last. There are as many as calls were ever out at once."""

    def __init__(self) -> None:
        self._free: list[Slot] = []

    def next(self) -> Slot:
        """The slot that takes the next line."""
        if not self._free:
            self._free.append(Slot())
        return self._free[-1]

    def sent(self) -> Slot:
        """That slot has its line."""
        slot = self.next()
        self._free.pop()
        return slot

    def returned(self, slot: Slot) -> None:
        """Its line came back."""
        self._free.append(slot)
