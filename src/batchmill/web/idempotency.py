"""How a create says that it is the same as one that was sent before."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from fastapi import Request

from batchmill.errors import InvalidInput
from batchmill.once import Once
from batchmill.web.auth import Caller
from batchmill.web.bodies import JsonObject

HEADER = "idempotency-key"
MAX_KEY_CHARACTERS = 255
_KEY = re.compile(rf"[\x20-\x7e]{{1,{MAX_KEY_CHARACTERS}}}")
_EXTENSION = "x-batchmill-"
_RETRIES = "x-stainless-retry-count"

HEADER_PARAMETER: dict[str, Any] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY_CHARACTERS},
    "description": "Sent again within 24 hours with the same body, it gives the same job",
}
"""The header, for the OpenAPI document of a route that takes it."""


def once_of(
    request: Request, body: JsonObject, caller: Caller, *, counts_retries: bool = False
) -> Once | None:
    """By what this create is known when it comes again; None: by nothing.

    `counts_retries`: the route's SDKs send no key but say how often they have tried, and a retry
    is then known by its body. Raises `InvalidInput` for a key that cannot be one.
    """
    key = request.headers.get(HEADER)
    if key is None and not counts_retries:
        return None
    if key is not None and _KEY.fullmatch(key) is None:
        raise InvalidInput(
            f"An Idempotency-Key has 1 to {MAX_KEY_CHARACTERS} printable ASCII characters.",
            param=HEADER,
            code="invalid_value",
        )
    return Once(
        tenant=caller.tenant,
        route=request.scope["path"],
        body=_digest(request, body),
        api_key=caller.key,
        key=None if key is None else hashlib.sha256(key.encode()).hexdigest(),
        resent=counts_retries and _is_retry(request),
    )


def _digest(request: Request, body: JsonObject) -> str:
    """The body's digest, with the extensions that came as headers."""
    digest = hashlib.sha256(body.digest)
    for name, value in sorted(request.headers.items()):
        if name.startswith(_EXTENSION):
            digest.update(f"{name}:{value}\n".encode())
    return digest.hexdigest()


def _is_retry(request: Request) -> bool:
    count = request.headers.get(_RETRIES, "")
    return count.isdecimal() and count.strip("0") != ""
