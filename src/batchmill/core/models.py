"""Which engine serves which model name: aliases, the wildcard, and what engines report.

Pure. The names in users' code are *asked*; the names engines know are *served*.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field

from batchmill.fleet import EngineState, EngineStatus

WILDCARD = "*"


@dataclass(frozen=True, slots=True)
class AllBut:
    """Every name but these."""

    names: frozenset[str]

    def __contains__(self, name: object) -> bool:
        return name not in self.names


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The aliases of this installation and what its engines were last seen to serve."""

    aliases: Mapping[str, str] = field(default_factory=dict)
    engines: tuple[EngineStatus, ...] = ()

    def served_name(self, asked: str) -> str:
        """The name to send to an engine for a name in a user's code.

        An exact alias wins, then a name that some engine serves as it is, then the wildcard: this
        one only once it is known of every engine what it serves, so that no name is given to
        another model than its own. Until then a name is sent as it is.
        """
        if asked in self.aliases:
            return self.aliases[asked]
        if any(asked in engine.models for engine in self.engines):
            return asked
        return self._wildcard or asked

    def serving(self, engines: Iterable[EngineStatus]) -> Container[str] | None:
        """Every name that one of these engines serves and may be used for now, None where that is
        any name at all."""
        served = {name for engine in engines if is_usable(engine) for name in engine.models}
        if WILDCARD in served:
            return None
        names = self.names()
        mine = frozenset(name for name in names if self.aliases.get(name, name) in served)
        if self._wildcard not in served:
            return mine
        others = frozenset(names) - mine
        return AllBut(others) if others else None

    @property
    def _wildcard(self) -> str | None:
        """What stands for names that no engine serves; None while one of them may yet turn out to
        be served."""
        return None if self.unknown else self.aliases.get(WILDCARD)

    @property
    def unknown(self) -> tuple[str, ...]:
        """The engines of which nobody ever heard what they serve."""
        return tuple(engine.name for engine in self.engines if not is_known(engine))

    def can_serve(self, asked: str) -> bool:
        """Whether some configured engine serves it, or one of which nothing is known yet may."""
        return bool(self.engines_for(asked) or self.unknown)

    def engines_for(self, asked: str) -> tuple[EngineStatus, ...]:
        """The engines that serve it, up or down. One that cannot list its models says `*`."""
        served = self.served_name(asked)
        return tuple(e for e in self.engines if served in e.models or WILDCARD in e.models)

    def names(self) -> tuple[str, ...]:
        """Every name a user may ask for, sorted: the served ones and the aliases."""
        served = {model for engine in self.engines for model in engine.models}
        return tuple(sorted((served | set(self.aliases)) - {WILDCARD}))


def is_known(engine: EngineStatus) -> bool:
    """Whether it was ever heard what it serves, by whomever."""
    return engine.seen_at > 0.0 or bool(engine.models)


def is_up(engine: EngineStatus) -> bool:
    """Whether it answered its last probe."""
    return engine.state is EngineState.UP


def is_usable(engine: EngineStatus) -> bool:
    """Whether it answered its last probe and is within its schedule."""
    return is_up(engine) and engine.is_open


def any_up(engines: Iterable[EngineStatus]) -> bool:
    """Whether one of them answered its last probe."""
    return any(is_up(engine) for engine in engines)
