"""The vendors' wire formats: each vendor has a folder, the files beside these serve all."""

from __future__ import annotations

from batchmill.dialects import deliveries, files, models, uploads
from batchmill.dialects.mistral import routes as mistral
from batchmill.dialects.openai import routes as openai

ROUTERS = (
    files.router,
    uploads.router,
    models.router,
    mistral.router,
    openai.router,
    deliveries.router,
)
"""Every vendor's routes, for `web.api.create_api`."""
