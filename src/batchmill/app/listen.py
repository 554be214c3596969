"""The listening socket of `serve`: opened by the parent, inherited by each life of the API."""

from __future__ import annotations

import errno
import socket
from typing import Final

from batchmill.errors import ConfigError, Problem

BACKLOG: Final = 2048

_ADVICE: Final = {
    errno.EADDRINUSE: "port {port} is in use; stop what listens there, or take another --port",
    errno.EACCES: "port {port} is not allowed to this user; take one above 1023",
    errno.EADDRNOTAVAIL: "{host} is no address of this machine",
}


def open_listener(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes a free one. Raises `ConfigError`."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        raise ConfigError([Problem("host", f"{host!r} is no address that can be found")]) from None
    family, kind, protocol, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as e:
        listener.close()
        advice = _ADVICE.get(
            e.errno or 0, "cannot listen on {host} port {port}: " + str(e.strerror)
        )
        field = "host" if e.errno == errno.EADDRNOTAVAIL else "port"
        raise ConfigError([Problem(field, advice.format(host=host, port=port))]) from None
    return listener


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def reachable_at(listener: socket.socket) -> tuple[str, int]:
    """Where this machine reaches the socket: loopback if it listens on every address."""
    host, port = listener.getsockname()[:2]
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port  # noqa: S104 - compared


def origin(listener: socket.socket) -> str:
    """The socket as a URL without a path."""
    host, port = reachable_at(listener)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
