"""What a worker asks the ledger for of all limits, and what it was granted. How it keeps to its
shares stands in `limits.py`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from batchmill.core.links import Link
from batchmill.grants import Asks, Grants


class Shares:
    """One worker's shares of the limits of its engines."""

    def __init__(self, links: Iterable[Link]) -> None:
        self._links = links
        self._heard = self._stock = 0

    @property
    def are_limited(self) -> bool:
        """Whether any engine has a limit."""
        return any(link.gate.limits is not None for link in self._links)

    def asks(self, lines: Mapping[str, int], now: float) -> Asks:
        """Take stock: what to ask for, with so many lines of each model waiting."""
        self._stock += 1
        return Asks(
            tuple(
                demand
                for link in self._links
                if link.gate.limits is not None
                for demand in link.gate.limits.demands(
                    {model: n for model, n in lines.items() if link.serves(model)}, now, self._stock
                )
            ),
            self._heard,
            self._stock,
        )

    def hear(self, grants: Grants, until: float, now: float) -> None:
        """Keep to what was granted, up to that moment."""
        self._heard = grants.version
        for link in self._links:
            if link.gate.limits is not None:
                link.gate.limits.hear(grants, until, now)
