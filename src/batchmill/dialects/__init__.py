"""The vendors' wire formats: `files.py` and `models.py` serve all, each vendor has a folder."""

from __future__ import annotations

from batchmill.dialects import files, models, uploads
from batchmill.dialects.mistral import routes as mistral

ROUTERS = (files.router, uploads.router, models.router, mistral.router)
"""Every vendor's routes, for `web.api.create_api`."""
