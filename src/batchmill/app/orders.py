"""What a child of `serve` is told: one line of JSON on its standard input, never an argument.

Arguments and environments can be read by others; engine keys and webhook secrets stand in here.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from batchmill.config import Settings
from batchmill.fleet import EngineSpec

_NOT_TOLD = {"engines", "engine_key", "webhook_secret"}
"""Secrets would be masked, and the engines have their places in a field of their own."""


@dataclass(frozen=True, slots=True)
class Orders:
    """The settings, the engines with their keys and places, and the inherited sockets."""

    values: dict[str, Any]
    engines: tuple[EngineSpec, ...]
    worker: str
    """What the ledger calls this parent's worker."""
    wake_fd: int | None = None
    listen_fd: int | None = None
    webhook_secrets: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        settings: Settings,
        engines: Sequence[EngineSpec],
        *,
        worker: str,
        wake_fd: int | None = None,
        listen_fd: int | None = None,
    ) -> Orders:
        """The orders of one child."""
        values = settings.model_dump(mode="json", exclude=_NOT_TOLD)
        secrets = settings.webhook_secrets
        return cls(values, tuple(engines), worker, wake_fd, listen_fd, secrets)

    @classmethod
    def read(cls) -> Orders:
        """The orders of this process."""
        return msgspec.json.decode(sys.stdin.readline(), type=cls)

    def encoded(self) -> str:
        """One line of JSON."""
        return msgspec.json.encode(self).decode()

    @property
    def settings(self) -> Settings:
        """The settings, without what only the parent needs."""
        return Settings.model_validate(self.values)
