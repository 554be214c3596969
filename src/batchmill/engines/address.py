"""Where an engine's endpoints are: its base URL, with the credentials taken out of it.

Pure. Nothing made here ever shows a user, a password or a key.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit, urlunsplit

_VERSION = "/v1"


@dataclass(frozen=True, slots=True)
class Address:
    """An engine's base URL without credentials; `name` is its host and port, for people."""

    name: str
    base: str
    query: str = ""
    authorization: str | None = field(default=None, repr=False)

    def endpoint(self, path: str) -> str:
        """The URL of an endpoint such as `/v1/ocr`: the base stands for its `/v1`."""
        rest = path.removeprefix(_VERSION) if path.startswith(f"{_VERSION}/") else path
        return self.base + rest + self.query


def address_of(url: str, key: str | None) -> Address:
    """Take an engine's URL apart; one without any path gets `/v1`.

    The key goes out as a bearer token; without one, a user and password in the URL do as basic
    authentication.
    """
    parts = urlsplit(url)
    netloc = parts.netloc.rpartition("@")[2]
    path = parts.path.rstrip("/") or _VERSION
    base = urlunsplit((parts.scheme, netloc, path, "", ""))
    query = f"?{parts.query}" if parts.query else ""
    authorization = f"Bearer {key}" if key else _basic(parts.username, parts.password)
    return Address(netloc, base, query, authorization)


def _basic(user: str | None, password: str | None) -> str | None:
    if not user and not password:
        return None
    pair = f"{unquote(user or '')}:{unquote(password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()
