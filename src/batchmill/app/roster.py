"""Which engines there are now: as the settings name them, the embedded ones with the places they
were given, and those with replicas once for each address of their host.

Only the operator's settings lead anywhere: nothing here looks at what users send. When it is looked
again stands in `following.py`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

import structlog

from batchmill.app.listen import free_port
from batchmill.config import Settings
from batchmill.enginespec import EngineSetting
from batchmill.fleet import EngineSpec
from batchmill.webhooks.guard import (
    NO_SUCH_NAME,
    RESOLVE_SECONDS,
    Resolve,
    SystemResolver,
    Unresolved,
)

log = structlog.get_logger()

MOST_REPLICAS: Final = 256
"""Of one engine; further addresses are left out."""
_CHANGES: Final = ("engines", "models", "engine_key")
"""What may change while the processes run."""


class Roster:
    """The engines of one parent, from its start to its end."""

    def __init__(self, settings: Settings, resolve: Resolve | None = None) -> None:
        self.settings = settings
        self._resolve = resolve or SystemResolver()
        embedded = [engine.name for engine in settings.engines if engine.embedded]
        self.ports = {name: free_port() for name in embedded}
        """Where each embedded engine listens, by its name."""
        self._addresses: dict[str, tuple[str, ...]] = {}

    def specs(self) -> tuple[EngineSpec, ...]:
        """All engines as workers know them."""
        return tuple(spec for engine in self.settings.engines for spec in self._specs_of(engine))

    def take(self, settings: Settings) -> list[str]:
        """Go on with the engines and aliases of these settings. Returns what else is different in
        them, and needs a restart."""
        late = [
            name
            for name in Settings.model_fields
            if name not in _CHANGES and getattr(settings, name) != getattr(self.settings, name)
        ]
        running = tuple(engine for engine in self.settings.engines if engine.embedded)
        if running != tuple(engine for engine in settings.engines if engine.embedded):
            late.append("engines (local and sim)")
        names = {engine.name for engine in running}
        others = (each for each in settings.engines if not (each.embedded or each.name in names))
        self.settings = self.settings.model_copy(
            update={
                "engines": (*running, *others),
                "models": settings.models,
                "engine_key": settings.engine_key,
            }
        )
        return late

    async def look_up(self) -> None:
        """Look up the replicas of the engines that have some."""
        urls = {engine.url for engine in self.settings.engines if engine.replicas}
        found = await asyncio.gather(*(_addresses(self._resolve, url) for url in urls))
        known = {url: now for url, now in zip(urls, found, strict=True) if now is not None}
        kept = {url: then for url, then in self._addresses.items() if url in urls}
        self._addresses = kept | known

    def _specs_of(self, engine: EngineSetting) -> Sequence[EngineSpec]:
        place = f"http://127.0.0.1:{self.ports.get(engine.name, 0)}/v1"
        spec = engine.at(place if engine.embedded else engine.url, self.settings.engine_key)
        return replicas(spec, self._addresses.get(engine.url, ()) if engine.replicas else ())


def replicas(spec: EngineSpec, addresses: Sequence[str]) -> tuple[EngineSpec, ...]:
    """An engine for each address, named after it; the engine itself while there is none, so that
    it is seen to be away. Pure."""
    named = (
        replace(spec, name=f"{spec.name}@{address}", connect_to=address) for address in addresses
    )
    return tuple(named) or (spec,)


async def _addresses(resolve: Resolve, url: str) -> tuple[str, ...] | None:
    """The addresses of a URL's host, in order; None while nobody can tell."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            addresses = one_family(await resolve(host, parts.port or 0))
    except socket.gaierror as error:
        if error.errno in NO_SUCH_NAME:
            return ()
        log.warning("lookup_failed", host=host, error=error.strerror)
    except (TimeoutError, Unresolved, OSError):
        log.warning("lookup_failed", host=host, error="no name server answers")
    else:
        if len(addresses) > MOST_REPLICAS:
            log.warning("replicas_left_out", host=host, used=MOST_REPLICAS)
        return addresses[:MOST_REPLICAS]
    return None


def one_family(addresses: Iterable[str]) -> tuple[str, ...]:
    """Those of IPv4 in order, or where there is none those of IPv6: a replica that has both is one
    engine. Pure."""
    found = sorted(map(ip_address, addresses), key=lambda ip: (ip.version, int(ip)))
    return tuple(str(ip) for ip in found if ip.version == found[0].version)
