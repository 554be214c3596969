"""What a child of `serve` is told: a line of JSON on its standard input, never an argument, and
another one whenever it changes.

Arguments and environments can be read by others; engine keys and webhook secrets stand in here.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from batchmill.config import Settings
from batchmill.fleet import EngineSpec

_NOT_TOLD = {"database_url", "engines", "engine_key", "webhook_secret"}
"""Secrets would be masked, and the engines have their places in a field of their own."""


@dataclass(frozen=True, slots=True)
class Orders:
    """The settings, the engines with their keys and places, and the inherited sockets."""

    values: dict[str, Any]
    engines: tuple[EngineSpec, ...]
    worker: str
    """What the ledger calls this parent's worker."""
    wake_fds: tuple[int, ...] = ()
    """Where the API rings for workers, or where a worker hears it."""
    listen_fd: int | None = None
    webhook_secrets: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        settings: Settings,
        engines: Sequence[EngineSpec],
        *,
        worker: str,
        wake_fds: tuple[int, ...] = (),
        listen_fd: int | None = None,
    ) -> Orders:
        """The orders of one child."""
        values = settings.model_dump(mode="json", exclude=_NOT_TOLD)
        if settings.database_url is not None:
            values["database_url"] = settings.database_url.get_secret_value()
        secrets = settings.webhook_secrets
        return cls(values, tuple(engines), worker, wake_fds, listen_fd, secrets)

    @classmethod
    def read(cls) -> Orders:
        """The orders of this process."""
        return msgspec.json.decode(sys.stdin.readline(), type=cls)

    @classmethod
    def follow(cls, changed: Callable[[Orders], None]) -> None:
        """Call that with whatever this process is ordered from now on; on the running loop."""
        later, unread = sys.stdin.fileno(), bytearray()
        os.set_blocking(later, False)

        def hear() -> None:
            unread.extend(os.read(later, 65536))
            *lines, rest = unread.split(b"\n")
            unread[:] = rest
            if lines:
                changed(msgspec.json.decode(lines[-1], type=cls))

        asyncio.get_running_loop().add_reader(later, hear)

    def encoded(self) -> str:
        """One line of JSON."""
        return msgspec.json.encode(self).decode()

    @property
    def settings(self) -> Settings:
        """The settings, without what only the parent needs."""
        return Settings.model_validate(self.values)
