"""The HTTP application: the routers that it is given, inside what all of them share.

`Services` and `ApiRules` are in `services.py`; the vendors' routers are in `dialects`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from fastapi import APIRouter, FastAPI
from starlette.middleware import Middleware

from batchmill import __version__
from batchmill.clock import Clock
from batchmill.core.models import Catalogue
from batchmill.ports import Blobs, Ledger
from batchmill.web import docs, engines, health, workers
from batchmill.web.auth import KeyRing
from batchmill.web.envelope import Envelope
from batchmill.web.errors import answer_errors
from batchmill.web.heads import Heads
from batchmill.web.services import ApiRules, KeyMode, Services
from batchmill.webhooks.guard import Guard

__all__ = ["ApiRules", "KeyMode", "begin_draining", "create_api"]


def create_api(
    ledger: Ledger,
    blobs: Blobs,
    catalogue: Callable[[], Awaitable[Catalogue]],
    rules: ApiRules,
    clock: Clock,
    wake: Callable[[], None],
    routers: Sequence[APIRouter],
    *,
    webhooks: Guard | None = None,
) -> FastAPI:
    """An ASGI application over these parts; whoever made them closes them.

    `catalogue` says what the engines serve now; `wake` tells the workers that there is work;
    `routers` are `dialects.routers.ROUTERS`; `webhooks` says which may be called, if any can be
    signed.
    """
    services = Services(ledger, blobs, catalogue, rules, clock, wake, webhooks=webhooks)
    app = FastAPI(
        title="Batchmill",
        version=__version__,
        description="Batch inference on your own engines, by Mistral's and OpenAI's batch APIs.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        middleware=[Middleware(Envelope, clock=clock, meter=services.meter), Middleware(Heads)],
    )
    app.state.services = services
    app.state.keys = KeyRing(ledger, clock)
    app.state.probe = health.StorageProbe()
    app.state.draining = False
    answer_errors(app)
    for router in (*routers, engines.router, health.router, workers.router, docs.router):
        app.include_router(router)
    return app


def begin_draining(app: FastAPI) -> None:
    """From now on `/readyz` says that requests should go to another process; those that come here
    all the same are answered."""
    app.state.draining = True
