"""Awaiting one call of a `Transport`; cancelled, the call is aborted."""

from __future__ import annotations

import asyncio

from batchmill.calls import Call, Reply, Transport


async def ask(transport: Transport, call: Call) -> Reply:
    """Send one call and wait for what comes back."""
    heard: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    flight = transport.send(call, heard.set_result)
    try:
        return await heard
    except asyncio.CancelledError:
        flight.abort()
        raise
