"""The names of the SDK's releases: 2.x moved everything from `mistralai` to `mistralai.client`."""

from __future__ import annotations

try:
    from mistralai.client import Mistral, errors, models
except ImportError:
    from mistralai import Mistral, models

    errors = models

__all__ = ["Mistral", "errors", "models"]
