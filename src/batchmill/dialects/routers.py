"""Every vendor's routes. Apart from the package itself: a worker reads and writes lines, and does
without a web framework."""

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
"""For `web.api.create_api`."""
