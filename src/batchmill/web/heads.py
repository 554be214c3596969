"""HEAD wherever GET is: the same reply without its body.

A plain ASGI layer. A route that answers HEAD itself is left to do so.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from batchmill.web.errors import answers


class Heads:
    """Wraps an app whose GET routes are to answer HEAD."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD" or answers(scope, "HEAD"):
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body"})

        asked = {**scope, "method": "GET"}
        try:
            await self._app(asked, receive, send_head)
        finally:
            scope["route"] = asked.get("route")
