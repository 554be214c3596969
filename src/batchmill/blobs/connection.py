"""One bucket of an object store, asked with bounds: so many requests at once, each with an end.

What is asked for is in `object_store.py`; what the errors mean is in `refusals.py`. Credentials
and the endpoint are read by obstore itself, from the environment variables of each vendor.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TypeVar
from urllib.parse import urlsplit

from obstore.exceptions import BaseError
from obstore.store import ObjectStore, from_url

from batchmill.blobs.refusals import judged

T = TypeVar("T")

REQUESTS_AT_ONCE = 16
CALL_SECONDS = 45.0
"""How long one call with all its tries may take, whatever the store does."""
CONNECT_SECONDS = 2.0
READ_SECONDS = 10.0
REQUEST_SECONDS = 30.0
RETRIES = 3
RETRY_SECONDS = 5.0


class Connection:
    """A bucket and a prefix within it. Raises `BlobsRefused` where the vendor's settings lack
    something or contradict each other."""

    def __init__(self, url: str) -> None:
        self._slots = asyncio.Semaphore(REQUESTS_AT_ONCE)
        self.deletes_many = urlsplit(url).scheme == "s3"
        """Deletes many objects by one request, those that are not there included."""
        try:
            self.store = _opened(url)
        except (BaseError, ValueError) as error:
            raise judged(error, "") from error

    async def ask(self, name: str, call: Callable[[], Awaitable[T]], *, reading: bool = False) -> T:
        """What the store answers. Raises what `judged` makes of its errors."""
        async with self._slots, self.bounded(name, reading=reading):
            return await call()

    @asynccontextmanager
    async def bounded(self, name: str, *, reading: bool = False) -> AsyncIterator[None]:
        """Bounded time for the block, and our errors in place of the store's."""
        try:
            async with asyncio.timeout(CALL_SECONDS):
                yield
        except (BaseError, OSError, NotImplementedError) as error:
            raise judged(error, name, reading=reading) from error


def _opened(url: str) -> ObjectStore:
    """The store of a `s3://`, `gs://` or `az://` URL. Plain http is spoken only to an endpoint
    whose URL says so: every other one is https."""
    return from_url(
        url,
        client_options={
            "allow_http": True,
            "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
            "read_timeout": timedelta(seconds=READ_SECONDS),
            "timeout": timedelta(seconds=REQUEST_SECONDS),
        },
        retry_config={
            "max_retries": RETRIES,
            "retry_timeout": timedelta(seconds=RETRY_SECONDS),
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=1),
            },
        },
    )
