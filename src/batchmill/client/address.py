"""Where the server is and which key opens it: what was given, else the environment's variables,
else this machine. A key is only sent to the address that it was set beside, but for Batchmill's
own, which nobody else can use."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

DEFAULT_URL: Final = "http://127.0.0.1:8470"
OWN_KEY: Final = "bm_"
"""What every key that `batchmill keys create` makes begins with."""

_FAMILIES: Final = (
    (("BATCHMILL_URL",), "BATCHMILL_API_KEY"),
    (("OPENAI_BASE_URL",), "OPENAI_API_KEY"),
    (("MISTRAL_SERVER_URL", "MISTRAL_BASE_URL"), "MISTRAL_API_KEY"),
)
"""Variables that name an address, first those that win, and the key that belongs to them."""

VARIABLES: Final = frozenset({"BATCHMILL_URL", "BATCHMILL_API_KEY"})
"""Those of Batchmill's own, which are a client's and no setting of a server."""

_URL = re.compile(r"https?://[^\s?#@]+", re.ASCII)


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
    named, source, own_key = _named(url, environ)
    if _URL.fullmatch(named) is None or not urlsplit(named).hostname:
        raise BadAddress(f"{source} should be a URL such as {DEFAULT_URL}, and is {_shown(named)}")
    found = key or environ.get(own_key, "") or _any_own_key(environ)
    return Address(re.sub(r"(/v1)?/*$", "", named), found or None, source)


def is_named(environ: Mapping[str, str] | None = None) -> bool:
    """Whether the environment names a server."""
    return _named(None, os.environ if environ is None else environ)[0] != DEFAULT_URL


def _named(url: str | None, environ: Mapping[str, str]) -> tuple[str, str, str]:
    """The URL, what named it, and the variable of its key."""
    if url:
        return url, "the URL", _FAMILIES[0][1]
    for names, key in _FAMILIES:
        for name in names:
            if found := environ.get(name, "").strip():
                return found, name, key
    return DEFAULT_URL, "the default", _FAMILIES[0][1]


def _any_own_key(environ: Mapping[str, str]) -> str:
    keys = (environ.get(key, "") for _, key in _FAMILIES)
    return next((key for key in keys if key.startswith(OWN_KEY)), "")


def _shown(url: str) -> str:
    """A URL that may hold a password."""
    return "one with a password in it" if "@" in url else repr(url[:100])
