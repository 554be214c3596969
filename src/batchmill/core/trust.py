"""Whether an engine is asked for many embeddings in one call, from what came of it before. Pure but
for its own state: time comes in as an argument (seconds of `Clock.boot`)."""

from __future__ import annotations

from dataclasses import dataclass, field

from batchmill.core.gate import Route

BELIEVED_REFUSALS = 3
"""One may be due to a single line among many."""
REFUSED_SECONDS = 3600.0


@dataclass(slots=True)
class Trust:
    """One engine's record. It is asked until it answers such a call in another form, or refuses
    three on end; then not for an hour, or until it was away and came back."""

    _refusals: dict[Route, int] = field(default_factory=dict)
    _until: dict[Route, float] = field(default_factory=dict)

    def may_ask(self, route: Route, now: float) -> bool:
        """Whether it may be asked now."""
        return not self._until or self._until.get(route, now) <= now

    def went_well(self, route: Route) -> None:
        """It answered each line of such a call."""
        self._refusals.pop(route, None)
        self._until.pop(route, None)

    def refused(self, route: Route, now: float, *, is_certain: bool) -> bool:
        """It refused such a call, or answered in another form, which is certain. Whether it is no
        longer asked from now on."""
        if not self.may_ask(route, now):
            return False
        refusals = self._refusals[route] = self._refusals.get(route, 0) + 1
        if not is_certain and refusals < BELIEVED_REFUSALS:
            return False
        self._refusals.pop(route)
        self._until[route] = now + REFUSED_SECONDS
        return True

    def forget(self) -> None:
        """It is another one now, perhaps."""
        self._refusals.clear()
        self._until.clear()
