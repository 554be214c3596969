"""A webhook's URL taken apart, strictly: what is odd is refused, never repaired. Pure.

The parsers of the world disagree on odd URLs, and each disagreement is a way past a check.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

MAX_URL = 2048
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[!$-;=@-Z\[\]_a-z|~]*)?(?P<query>\?[!$-;=?-Z\[\]_a-z|~]*)?",
    re.IGNORECASE | re.ASCII,
)
"""Neither a user nor a fragment, nothing but visible ASCII, and no backslash."""
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORTS = {"http": 80, "https": 443}


class Refused(Exception):
    """This URL will not be called; says why, for its owner."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a webhook goes: `host` is a lower-case name or an address without brackets."""

    is_tls: bool
    host: str
    port: int
    path: str
    literal: IPv4Address | IPv6Address | None

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS["https" if self.is_tls else "http"] else self.with_port

    @property
    def with_port(self) -> str:
        """`host:port`, always with the port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def target_of(url: str) -> Target:
    """Take a URL apart. Raises `Refused` for all but plain http and https URLs."""
    match = _URL.fullmatch(url) if len(url) <= MAX_URL else None
    if match is None:
        raise Refused(
            "it should be a plain URL such as https://example.com/hook, without a user, a "
            f"fragment or spaces, and of at most {MAX_URL} characters"
        )
    scheme = match["scheme"].lower()
    port = int(match["port"]) if match["port"] else _PORTS[scheme]
    if not 0 < port < 65536:
        raise Refused(f"there is no port {port}")
    host, literal = _host_of(match["host"])
    path = (match["path"] or "/") + (match["query"] or "")
    return Target(scheme == "https", host, port, path, literal)


def _host_of(text: str) -> tuple[str, IPv4Address | IPv6Address | None]:
    """The host in its one form, and the address where it is one."""
    if text.startswith("["):
        try:
            literal = IPv6Address(text[1:-1])
        except ValueError as e:
            raise Refused(f"{text} is no IPv6 address") from e
        return str(literal), literal
    host = text.lower().removesuffix(".")
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _ipv4(host)
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise Refused(f"{text[:100]} is no host name")
    return host, None


def _ipv4(host: str) -> tuple[str, IPv4Address]:
    """An IPv4 address in its usual notation. What ends in a number is read as an address by
    resolvers, in octal, in hex or in fewer parts; all of that is refused."""
    try:
        literal = ip_address(host)
    except ValueError as e:
        raise Refused(f"{host[:100]} is no IPv4 address in its usual notation") from e
    assert isinstance(literal, IPv4Address)
    return host, literal
