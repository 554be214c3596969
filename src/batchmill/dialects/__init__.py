"""The vendors' wire formats: each vendor has a folder, the files beside these serve all."""

from __future__ import annotations

from batchmill.dialects import deliveries, files, models, uploads
from batchmill.dialects.mistral import routes as mistral

ROUTERS = (files.router, uploads.router, models.router, deliveries.router, mistral.router)
"""Every vendor's routes, for `web.api.create_api`."""
