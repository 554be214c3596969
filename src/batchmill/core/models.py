"""Which engine serves which model name: aliases, the wildcard, and what engines report.

Pure. The names in users' code are *asked*; the names engines know are *served*.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from batchmill.fleet import EngineState, EngineStatus

WILDCARD = "*"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The aliases of this installation and what its engines were last seen to serve."""

    aliases: Mapping[str, str] = field(default_factory=dict)
    engines: tuple[EngineStatus, ...] = ()

    def served_name(self, asked: str) -> str:
        """The name to send to an engine for a name in a user's code.

        An exact alias wins, then a name that some engine serves as it is, then the wildcard.
        """
        if asked in self.aliases:
            return self.aliases[asked]
        if any(asked in engine.models for engine in self.engines):
            return asked
        return self.aliases.get(WILDCARD, asked)

    def serving(self) -> frozenset[str] | None:
        """Every name that an engine which may be used now serves, None where that is any name at
        all."""
        served = {name for engine in self.engines if is_usable(engine) for name in engine.models}
        if WILDCARD in served or self.aliases.get(WILDCARD) in served:
            return None
        return frozenset(
            served | {name for name, target in self.aliases.items() if target in served}
        )

    def can_serve(self, asked: str) -> bool:
        """Whether some configured engine serves it, or an engine never seen yet may."""
        if self.engines_for(asked):
            return True
        return any(engine.seen_at == 0.0 for engine in self.engines)

    def engines_for(self, asked: str) -> tuple[EngineStatus, ...]:
        """The engines that serve it, up or down. One that cannot list its models says `*`."""
        served = self.served_name(asked)
        return tuple(e for e in self.engines if served in e.models or WILDCARD in e.models)

    def names(self) -> tuple[str, ...]:
        """Every name a user may ask for, sorted: the served ones and the aliases."""
        served = {model for engine in self.engines for model in engine.models}
        return tuple(sorted((served | set(self.aliases)) - {WILDCARD}))


def is_up(engine: EngineStatus) -> bool:
    """Whether it answered its last probe."""
    return engine.state is EngineState.UP


def is_usable(engine: EngineStatus) -> bool:
    """Whether it answered its last probe and is within its schedule."""
    return is_up(engine) and engine.is_open


def any_up(engines: Iterable[EngineStatus]) -> bool:
    """Whether one of them answered its last probe."""
    return any(is_up(engine) for engine in engines)
