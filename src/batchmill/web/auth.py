"""Who asks: an API key stands for a tenant. Without any key made, only this machine may ask."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from batchmill.clock import Clock
from batchmill.errors import Forbidden, Unauthorized
from batchmill.model import DEFAULT_TENANT, ApiKey, KeyId, TenantId
from batchmill.ports import Ledger
from batchmill.web.services import ApiRules, KeyMode, Services, Wired

CACHE_SECONDS: Final = 1.0
_CACHED_KEYS: Final = 1024
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Caller:
    """The tenant that asks, and the key it used, if any."""

    tenant: TenantId
    key: KeyId | None = None


def key_digest(key: str) -> str:
    """What the ledger keeps of a key: its SHA-256 in hex."""
    return hashlib.sha256(key.encode()).hexdigest()


class KeyRing:
    """The keys as the ledger had them at most a second ago, so that a revocation is quick."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._known: dict[str, tuple[float, ApiKey]] = {}
        self._any_made: tuple[float, bool] = (-CACHE_SECONDS, False)

    async def find(self, key: str) -> ApiKey | None:
        """The record of a live key."""
        digest = key_digest(key)
        now = self._clock.boot()
        read_at, record = self._known.get(digest, (0.0, None))
        if record is not None and now - read_at < CACHE_SECONDS:
            return record
        record = await self._ledger.key_by_digest(digest)
        self._known.pop(digest, None)
        if record is not None:
            if len(self._known) >= _CACHED_KEYS:
                self._known.clear()
            self._known[digest] = (now, record)
        return record

    async def any_made(self) -> bool:
        """Whether a key was ever made; from then on keys are needed."""
        now = self._clock.boot()
        read_at, made = self._any_made
        if not made and now - read_at >= CACHE_SECONDS:
            made = bool(await self._ledger.keys())
            self._any_made = (now, made)
        return made


async def _caller(
    request: Request,
    services: Wired,
    _credentials: Annotated[
        HTTPAuthorizationCredentials | None,
        Security(HTTPBearer(auto_error=False, scheme_name="API key")),
    ],
) -> Caller:
    return await identify(request, services)


async def identify(request: Request, services: Services) -> Caller:
    """The caller of a request; a stream asks again as it goes on, since a key may be revoked
    meanwhile. Raises `Unauthorized` or `Forbidden`."""
    ring: KeyRing = request.app.state.keys
    rules = services.rules
    if rules.key_mode is not KeyMode.REQUIRED and not await ring.any_made():
        if rules.key_mode is KeyMode.LOOPBACK:
            refuse_foreign(request.headers, rules)
        return Caller(DEFAULT_TENANT)
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Unauthorized("This server needs an API key: send `Authorization: Bearer <key>`.")
    record = await ring.find(key.strip())
    if record is None:
        raise Unauthorized(
            "This API key is unknown or was revoked; ask the server's operator for one.",
            code="invalid_api_key",
        )
    return Caller(record.tenant, record.id)


def refuse_foreign(headers: Mapping[str, str], rules: ApiRules) -> None:
    """Raise `Forbidden` when the request may come from a web page elsewhere: another `Host`
    than this machine, or an `Origin` that is not ours."""
    host = headers.get("host", "")
    public = "" if rules.public_url is None else urlsplit(rules.public_url).netloc
    if not (_is_loopback(host) or (public and host.lower() == public.lower())):
        raise Forbidden(
            f"Without API keys only this machine may ask, and it is not called '{host[:100]}'; "
            "use localhost, or make a key.",
            code="foreign_host",
        )
    origin = headers.get("origin")
    if origin is not None and urlsplit_host(origin) != host.lower():
        raise Forbidden(
            "Without API keys no web page of another origin may ask; make a key.",
            code="foreign_origin",
        )


def urlsplit_host(origin: str) -> str | None:
    """`host:port` of an origin, in lower case; None where it has none."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def is_host(text: str) -> bool:
    """Whether `text` is a plain `host` or `host:port`, fit for a link."""
    return _HOST.fullmatch(text) is not None


def _is_loopback(host: str) -> bool:
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    name = match[1].strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


CallerOf = Annotated[Caller, Depends(_caller)]
"""A route's parameter that receives who asks."""
NeedsKey = Depends(_caller)
"""For routes that only need somebody to be allowed."""
