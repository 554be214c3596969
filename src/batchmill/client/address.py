"""Where the server is and which key opens it: what was given, else the environment's variables,
else this machine. A key is only sent to the address that it was set beside; one of Batchmill's own
that stands beside none, to this machine alone."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

DEFAULT_URL: Final = "http://127.0.0.1:8470"
OWN_KEY: Final = "bm_"
"""What every key that `batchmill keys create` makes begins with."""

_OWN_VARIABLE: Final = "BATCHMILL_API_KEY"
_FAMILIES: Final = (
    (("BATCHMILL_URL",), _OWN_VARIABLE),
    (("OPENAI_BASE_URL",), "OPENAI_API_KEY"),
    (("MISTRAL_SERVER_URL", "MISTRAL_BASE_URL"), "MISTRAL_API_KEY"),
)
"""Variables that name an address, first those that win, and the key that belongs to them."""

VARIABLES: Final = frozenset({"BATCHMILL_URL", "BATCHMILL_API_KEY"})
"""Those of Batchmill's own, which are a client's and no setting of a server."""

_Origin = tuple[str, str, int]
_URL = re.compile(r"https?://[^\s?#@\x00-\x20\x7f]+", re.ASCII)
_KEY = re.compile(r"[!-~]+", re.ASCII)
"""What a header can carry."""


class BadAddress(ValueError):
    """An address that cannot be one; the message says where it came from."""


@dataclass(frozen=True, slots=True)
class Address:
    """A server's URL without `/v1`, its key, and what named the URL."""

    url: str
    key: str | None = field(repr=False)
    source: str

    @property
    def is_here(self) -> bool:
        """Whether it is this machine, which no proxy stands before."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


def address(
    url: str | None = None, key: str | None = None, environ: Mapping[str, str] | None = None
) -> Address:
    """The address to use. Raises `BadAddress`."""
    environ = os.environ if environ is None else environ
    named, source = _named(url, environ)
    origin = _origin(named)
    if _URL.fullmatch(named) is None or origin is None:
        raise BadAddress(f"{source} should be a URL such as {DEFAULT_URL}, and is {_shown(named)}")
    key = (key or "").strip()
    found = Address(re.sub(r"(/v1)?/*$", "", named), key, source)
    found = replace(found, key=key or _key_for(origin, environ, is_here=found.is_here))
    if found.key is not None and _KEY.fullmatch(found.key) is None:
        raise BadAddress(
            f"The API key for {found.url} has characters that no key has, such as a line break or "
            "a letter beyond ASCII. Copy it again; it is not shown here."
        )
    return found


def is_named(environ: Mapping[str, str] | None = None) -> bool:
    """Whether the environment names a server."""
    return _named(None, os.environ if environ is None else environ)[0] != DEFAULT_URL


def _named(url: str | None, environ: Mapping[str, str]) -> tuple[str, str]:
    """The URL, and what named it."""
    if url:
        return url, "the URL"
    for names, _ in _FAMILIES:
        for name in names:
            if found := environ.get(name, "").strip():
                return found, name
    return DEFAULT_URL, "the default"


def _key_for(origin: _Origin, environ: Mapping[str, str], *, is_here: bool) -> str | None:
    """The first key that stands beside that address, or is Batchmill's own and stands beside none
    while the address is on this machine."""
    for names, variable in _FAMILIES:
        key = environ.get(variable, "").strip()
        beside = next(filter(None, (environ.get(name, "").strip() for name in names)), None)
        is_own = variable == _OWN_VARIABLE or key.startswith(OWN_KEY)
        may_go = is_own and is_here if beside is None else _origin(beside) == origin
        if key and may_go:
            return key
    return None


def _origin(url: str) -> _Origin | None:
    """Whom a URL leads to; None where it leads nowhere."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if not parts.hostname:
        return None
    return parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80)


def _shown(url: str) -> str:
    """A URL that may hold a password."""
    return "one with a password in it" if "@" in url else repr(url[:100])
