"""What both kinds of client share over httpx: how a request is built and what its failures mean."""

from __future__ import annotations

from typing import Any, Final

import httpx2 as httpx

from batchmill import __version__
from batchmill.client.address import DEFAULT_URL, Address, BadAddress
from batchmill.client.steps import Lost, Request

CONNECT_SECONDS: Final = 10.0
PIECE_BYTES: Final = 256 * 1024
LOSSES: Final = (httpx.HTTPError, httpx.StreamError, OSError)
"""What a request ends with that got no whole answer."""
_UNSENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
"""Those of them in which the server heard nothing."""


def settings_of(address: Address) -> dict[str, Any]:
    """The arguments of an httpx client for that address. A proxy is never asked for what is on
    this machine. Raises `BadAddress` for a host that cannot be looked up."""
    try:
        httpx.URL(address.url).host.encode("idna")
    except (httpx.InvalidURL, UnicodeError):
        message = f"{address.source} should be a URL such as {DEFAULT_URL}, and names no host"
        raise BadAddress(message) from None
    headers = {"user-agent": f"batchmill/{__version__}", "accept-encoding": "identity"}
    if address.key is not None:
        headers["authorization"] = f"Bearer {address.key}"
    return {
        "base_url": address.url,
        "headers": headers,
        "trust_env": not address.is_here,
        "follow_redirects": False,
    }


def arguments_of(request: Request) -> dict[str, Any]:
    """The arguments of `httpx.Client.request` and `build_request`."""
    arguments: dict[str, Any] = {
        "method": request.method,
        "url": request.path,
        "params": dict(request.query),
        "headers": dict(request.headers),
        "timeout": httpx.Timeout(request.seconds, connect=min(CONNECT_SECONDS, request.seconds)),
    }
    if request.upload is not None:
        request.upload.content.seek(0)
        name = request.upload.name
        arguments["data"] = {"purpose": request.upload.purpose}
        arguments["files"] = {"file": (name, request.upload.content, "application/octet-stream")}
    elif request.body is not None:
        arguments["json"] = request.body
    return arguments


def lost(error: Exception, address: Address, *, is_known: bool) -> Lost:
    """Why there is no answer, in words that lead on."""
    where = f"{address.url} ({address.source})"
    was_sent = not isinstance(error, _UNSENT)
    if isinstance(error, httpx.ConnectError):
        return Lost(
            f"Nothing answers at {where}: {error}. Start `batchmill serve` there, or set "
            "BATCHMILL_URL to where it runs.",
            is_known,
            was_sent,
        )
    if isinstance(error, httpx.TimeoutException):
        why = f"The server at {where} did not answer in time. Is it overloaded?"
    else:
        why = f"The connection to {where} broke: {str(error) or type(error).__name__}."
    return Lost(why, was_sent=was_sent)
