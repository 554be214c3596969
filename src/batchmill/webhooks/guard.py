"""Which addresses a webhook may reach: the public ones, and what the operator allows by name.

Asked when a job is created and again before each try. The try connects to the very addresses
that were looked at, so a name that answers differently a moment later gains nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Collection, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from batchmill.webhooks.target import Refused, Target, target_of

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host name, as text; raises `socket.gaierror` of `NO_SUCH_NAME` where there is
none, another `OSError` or `Unresolved` where nobody can tell."""


class Unresolved(Exception):
    """Nothing can be said of a host now; says why."""


NO_SUCH_NAME: Final = frozenset({socket.EAI_NONAME, socket.EAI_NODATA})
"""How a resolver says for certain that a name has no addresses; all else may pass."""
RESOLVE_SECONDS: Final = 5.0
MAX_LOOKUPS: Final = 16

_CLOSED_V4: Final = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier NAT, and a cloud's metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # a cloud's platform service, on a public address
        "169.254.0.0/16",  # link-local, and the metadata of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments, and a cloud's metadata
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
_OPEN_V6: Final = IPv6Network("2000::/3")
"""All that is given out for public use; loopback, local, mapped and multicast lie outside."""
_CLOSED_V6: Final = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",  # documentation
        "3fff::/20",
    )
)
_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_NAT64: Final = IPv6Network("64:ff9b::/96")
_6TO4: Final = IPv6Network("2002::/16")


def is_public(address: Address) -> bool:
    """Whether everybody may call it. An IPv6 address that stands for an IPv4 one is that one."""
    if isinstance(address, IPv6Address):
        inner = _embedded(address)
        if inner is None:
            is_open = address in _OPEN_V6 and address.scope_id is None
            return is_open and not any(address in network for network in _CLOSED_V6)
        address = inner
    return not any(address in network for network in _CLOSED_V4)


def is_allowed(target: Target, allowed: Collection[str]) -> bool:
    """Whether the operator named this host, or this host with this port."""
    host = f"[{target.host}]" if ":" in target.host else target.host
    return any(each.lower() in {target.host, host, target.with_port} for each in allowed)


class Guard:
    """Decides for one installation. `allowed` are hosts, or `host:port`s, that the operator
    vouches for: they may be anywhere, and may speak plain http."""

    def __init__(self, allowed: Collection[str], resolve: Resolve) -> None:
        self._allowed = tuple(allowed)
        self._resolve = resolve

    async def admit(self, url: str) -> tuple[Target, tuple[str, ...]]:
        """The target and the addresses to connect to, in order. Raises `Refused`, and `Unresolved`
        where it cannot be said now."""
        target = target_of(url)
        allowed = is_allowed(target, self._allowed)
        if not (target.is_tls or allowed):
            raise Refused("it should begin with https://")
        addresses = await self._addresses(target)
        if not allowed and not all(is_public(each) for each in addresses):
            raise Refused(f"{target.host} is not a public address, or has one that is not")
        return target, tuple(str(each) for each in addresses)

    async def _addresses(self, target: Target) -> tuple[Address, ...]:
        if target.literal is not None:
            return (target.literal,)
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                found = await self._resolve(target.host, target.port)
        except OSError as e:  # TimeoutError is an OSError
            if isinstance(e, socket.gaierror) and e.errno in NO_SUCH_NAME:
                raise Refused(f"{target.host} cannot be resolved") from e
            raise Unresolved(f"no name server tells the addresses of {target.host}") from e
        try:
            addresses = tuple(ip_address(text) for text in found)
        except ValueError as e:
            raise Refused(f"{target.host} has an address that is none") from e
        if not addresses:
            raise Refused(f"{target.host} has no address")
        return addresses


class SystemResolver:
    """The machine's resolver. Each lookup has a thread of its own that nobody waits for at the
    end: a name server that does not answer would keep the threads that the ledger needs."""

    def __init__(self) -> None:
        self._free = threading.BoundedSemaphore(MAX_LOOKUPS)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """See `Resolve`; raises `Unresolved` where too many lookups hang."""
        if not self._free.acquire(blocking=False):
            raise Unresolved("too many host names are being looked up")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Sequence[str]] = loop.create_future()

        def tell(found: Sequence[str] | OSError) -> None:
            if not answer.done():
                if isinstance(found, OSError):
                    answer.set_exception(found)
                else:
                    answer.set_result(found)

        def look_up() -> None:
            found: Sequence[str] | OSError
            try:
                found = _look_up(host, port)
            except OSError as e:
                found = e
            except UnicodeError as e:
                found = socket.gaierror(socket.EAI_NONAME, str(e))
            finally:
                self._free.release()
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(tell, found)

        threading.Thread(target=look_up, name="lookup", daemon=True).start()
        return await answer


def _look_up(host: str, port: int) -> Sequence[str]:
    rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(row[4][0]) for row in rows))


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that a mapped, NAT64 or 6to4 address stands for."""
    if address in _MAPPED or address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    if address in _6TO4:
        return IPv4Address(int(address) >> 80 & 0xFFFF_FFFF)
    return None
