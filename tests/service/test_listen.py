"""The listening socket of `serve`, on the real network stack."""

from __future__ import annotations

import socket

import pytest

from batchmill.app.listen import open_listener, origin, reachable_at
from batchmill.errors import ConfigError


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        pytest.param("::1", "::1", marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6")),
        pytest.param("[::1]", "::1", marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6")),
        pytest.param("::", "::1", marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6")),
    ],
)
def test_it_accepts_where_it_says(host: str, reached: str) -> None:
    with open_listener(host, 0) as listener:
        assert reachable_at(listener)[0] == reached
        assert reached in origin(listener)
        with socket.create_connection(reachable_at(listener), timeout=5):
            listener.accept()[0].close()


def test_a_port_in_use_is_said_with_what_to_do() -> None:
    with open_listener("127.0.0.1", 0) as listener:
        port = reachable_at(listener)[1]
        with pytest.raises(ConfigError, match=f"port {port} is in use; stop what listens there"):
            open_listener("127.0.0.1", port)


def test_a_port_whose_last_server_just_ended_is_free() -> None:
    with open_listener("127.0.0.1", 0) as listener:
        host, port = reachable_at(listener)
        with socket.create_connection((host, port), timeout=5):
            listener.accept()[0].close()
    open_listener(host, port).close()
