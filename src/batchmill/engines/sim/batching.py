"""Which calls are served now and which wait in line. Pure but for its own state."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

C = TypeVar("C", bound=Hashable)


class Batch(Generic[C]):
    """Serves so many calls at once, the others in the order in which they came."""

    def __init__(self) -> None:
        self.running: set[C] = set()
        self._waiting: dict[C, None] = {}

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def join(self, call: C, slots: int) -> bool:
        """A call comes; whether it is served at once."""
        if slots and len(self.running) >= slots:
            self._waiting[call] = None
            return False
        self.running.add(call)
        return True

    def leave(self, call: C, slots: int) -> tuple[C, ...]:
        """A call is answered or has gone away; the calls that are served from now on."""
        self.running.discard(call)
        self._waiting.pop(call, None)
        return self.refill(slots)

    def refill(self, slots: int) -> tuple[C, ...]:
        """Take calls out of the line while there is room; those that are served from now on."""
        begun: list[C] = []
        while self._waiting and (not slots or len(self.running) < slots):
            following = next(iter(self._waiting))
            del self._waiting[following]
            self.running.add(following)
            begun.append(following)
        return tuple(begun)
