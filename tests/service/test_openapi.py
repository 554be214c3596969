"""Schemathesis over the project's own OpenAPI document, against a real server: no 5xx, and every
reply is one that the document promises."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from batchmill.dialects.routers import ROUTERS
from batchmill.web.api import create_api
from tests.service.rig import BODY, answered, lines, open_rig

CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
)
REAL: dict[str, str] = {}
"""Ids that exist, taken for half of the generated ones."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server in a thread of its own."""
    listener = socket.create_server(("127.0.0.1", 0))
    ready, stop = threading.Event(), threading.Event()
    root = tmp_path_factory.mktemp("api")
    thread = threading.Thread(target=lambda: asyncio.run(_serve(root, listener, ready, stop)))
    thread.start()
    try:
        assert ready.wait(30)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stop.set()
        thread.join(30)


async def _serve(
    root: Path, listener: socket.socket, ready: threading.Event, stop: threading.Event
) -> None:
    async with open_rig(root, idle_seconds=2.0) as rig:
        REAL["file_id"] = (await rig.upload(lines(3)))["id"]
        asked = {"bytes": 3, "filename": "a", "mime_type": "text/plain", "purpose": "batch"}
        REAL["upload_id"] = (await rig.call("POST", "/v1/uploads", json=asked)).json()["id"]
        REAL["job_id"] = (await rig.create(requests=[{"body": BODY}]))["id"]
        await rig.finish(answered)
        REAL["batch_id"] = REAL["job_id"]
        REAL["model_id"] = "small"
        assert rig.app is not None
        config = uvicorn.Config(
            rig.app, http="httptools", log_config=None, timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        with contextlib.suppress(AttributeError):
            server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve(sockets=[listener]))
            ready.set()
            await asyncio.to_thread(stop.wait)
            server.should_exit = True


schema = schemathesis.openapi.from_dict(
    create_api(*cast("Any", [None] * 6), routers=ROUTERS).openapi()
)


@schema.parametrize()
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_reply_is_one_that_the_document_promises(
    case: schemathesis.Case, server: str
) -> None:
    for name, real in REAL.items():
        generated = str(case.path_parameters.get(name, ""))
        if len(generated) % 2 and case.method != "DELETE":
            case.path_parameters[name] = real
    case.call_and_validate(base_url=server, checks=CHECKS, timeout=20)
