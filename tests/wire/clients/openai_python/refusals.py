"""Errors: the SDK's class, code and param, and whether it tries again."""

from __future__ import annotations

from typing import Any

import openai
from openai import (
    AuthenticationError,
    BadRequestError,
    ConflictError,
    NotFoundError,
)
from openai_python.harness import CHAT, World, refused
from operations import operation


@operation
def wrong_key(world: World) -> None:
    intruder = world.client_for("sk-wrong")
    for call in (intruder.batches.list, intruder.files.list, intruder.models.list):
        refused(AuthenticationError, "invalid_api_key", None, call)
    file = ("a.jsonl", world.chat(1))
    upload = intruder.files.create
    refused(AuthenticationError, "invalid_api_key", None, upload, file=file, purpose="batch")


@operation
def another_tenant(world: World) -> None:
    batch, theirs = world.finished, world.stranger
    refused(NotFoundError, None, None, theirs.batches.retrieve, batch.id)
    refused(NotFoundError, None, None, theirs.batches.cancel, batch.id)
    for call in (theirs.files.retrieve, theirs.files.content, theirs.files.delete):
        refused(NotFoundError, None, "id", call, batch.output_file_id)


@operation
def unknown_ids(world: World) -> None:
    for unknown in ("file-abc123", "no-uuid", "naïve 数据"):
        error = refused(NotFoundError, None, "id", world.client.files.retrieve, unknown)
        assert f"No such File object: {unknown}" in error.message, error
        refused(NotFoundError, None, None, world.client.batches.retrieve, unknown)
        refused(NotFoundError, None, None, world.client.batches.cancel, unknown)


@operation
def bad_fields(world: World) -> None:
    _bad(world, "invalid_value", "endpoint", endpoint="/v1/nothing")
    _bad(world, "invalid_value", "completion_window", completion_window="48x")
    _bad(world, "invalid_value", "completion_window", completion_window="31d")
    _bad(world, "invalid_type", "metadata.k", metadata={"k": ["v"]})
    _bad(world, "invalid_value", "metadata", metadata={f"k{n}": "v" for n in range(17)})
    _bad(world, "invalid_value", "metadata.k", metadata={"k": "v" * 513})
    _bad(world, "missing_required_parameter", "endpoint", endpoint=None)
    _bad(world, "invalid_type", "priority", extra_body={"priority": "high"})


@operation
def bad_limits(world: World) -> None:
    for limit in (0, 101, -1):
        refused(BadRequestError, "invalid_value", "limit", world.client.batches.list, limit=limit)


@operation
def another_purpose(world: World) -> None:
    file = ("a.jsonl", world.chat(1))
    made = world.client.files.create(file=file, purpose="fine-tune").id
    _bad(world, "invalid_purpose", "input_file_id", input_file_id=made)


@operation
def upload_of_no_lines(world: World) -> None:
    upload = world.client.files.create
    for content, code in ((b"", "empty_file"), (b"hello\n", "invalid_json_line")):
        file = ("bad.jsonl", content)
        refused(BadRequestError, code, "file", upload, file=file, purpose="batch")


@operation
def cancel_of_a_finished_batch_is_asked_once(world: World) -> None:
    """A 409 is tried again by the SDK unless it is told not to."""
    sent: list[Any] = []
    hooks = {"request": [sent.append]}
    with openai.DefaultHttpxClient(event_hooks=hooks) as http:
        client = world.client_for(world.key, http_client=http)
        error = refused(ConflictError, None, None, client.batches.cancel, world.finished.id)
    assert "Cannot cancel a batch with status 'completed'." in error.message, error
    assert len(sent) == 1, sent


def _bad(world: World, code: str, param: str, **options: Any) -> None:
    given = {"input_file_id": "file-abc", "endpoint": CHAT, "completion_window": "24h"} | options
    refused(BadRequestError, code, param, world.client.batches.create, **given)
