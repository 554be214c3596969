"""Where an engine's endpoints are: its base URL, with the credentials taken out of it.

Pure. Nothing made here ever shows a user, a password or a key.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

_VERSION = "/v1"
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """An engine's base URL taken apart; `name` is its host and port as written, for people and
    for the Host header."""

    name: str
    host: str
    port: int
    is_tls: bool
    base_path: str
    query: str = ""
    authorization: str | None = field(default=None, repr=False)

    def target(self, path: str) -> str:
        """What is asked for on the wire for an endpoint such as `/v1/ocr`: the base stands for
        its `/v1`."""
        rest = path.removeprefix(_VERSION) if path.startswith(f"{_VERSION}/") else path
        return self.base_path + rest + self.query

    @property
    def metrics_target(self) -> str:
        """What is asked for where the engine tells of itself: beside its `/v1`."""
        return self.base_path.removesuffix(_VERSION) + "/metrics"


def address_of(url: str, key: str | None) -> Address:
    """Take an engine's URL apart; one without any path gets `/v1`. Raises `ValueError` for what
    is no http or https URL, or a key that cannot stand in a header.

    The key goes out as a bearer token; without one, a user and password in the URL do as basic
    authentication.
    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("an engine's URL should begin with http:// or https:// and name a host")
    if key is not None and not (key.isascii() and key.isprintable()):
        raise ValueError("an engine's key has characters that cannot stand in a header")
    path = quote(parts.path.rstrip("/") or _VERSION, safe="/%:@!$&'()*+,;=~")
    return Address(
        name=parts.netloc.rpartition("@")[2],
        host=parts.hostname,
        port=parts.port or _PORTS[parts.scheme],
        is_tls=parts.scheme == "https",
        base_path=path,
        query=f"?{parts.query}" if parts.query else "",
        authorization=f"Bearer {key}" if key else _basic(parts.username, parts.password),
    )


def _basic(user: str | None, password: str | None) -> str | None:
    if not user and not password:
        return None
    pair = f"{unquote(user or '')}:{unquote(password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()
