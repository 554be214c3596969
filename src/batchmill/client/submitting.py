"""Making a job: the lines are uploaded and the job is created, once, whatever breaks meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

from batchmill.client import objects, reading
from batchmill.client.asking import ask_json
from batchmill.client.errors import ClientError, Conflict, Unreachable, Unreadable
from batchmill.client.jobs import FILES, JOBS, PAGE, delete_file, get, models, page_of_files
from batchmill.client.objects import File, Job
from batchmill.client.sources import Lines, Source, file_id, lines_of
from batchmill.client.steps import Request, Steps, Upload

CHAT: Final = "/v1/chat/completions"
UPLOAD_SECONDS: Final = 600.0
KEY_REUSED: Final = "idempotency_key_reused"
KEPT_SECONDS: Final = 25 * 3600
"""How much older than now the upload of a create may be whose key is still known: the day for which
the server keeps keys, and what may lie between an upload and its create."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for beside the lines. `key` makes it the same job when it is sent again."""

    key: str
    endpoint: str | None = None
    model: str | None = None
    window: str | None = None
    metadata: Mapping[str, str] | None = None
    extensions: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ready:
    """Lines that the server has, and what they say of themselves. `upload`: the file, where it was
    sent for this job alone."""

    file: str
    is_openai: bool
    endpoint: str | None
    model: str | None
    upload: File | None = None


def submit(source: Source, order: Order, name: str | None = None) -> Steps[Job]:
    """The job; where its key stands for one that was made of an upload with the same bytes, that
    one. Raises `Unreadable`, `Refused`, `Unreachable`; `Conflict` for a key of another create."""
    lines = yield from ready(source, order, name)
    try:
        return (yield from create(lines, order))
    except Conflict as error:
        if error.code != KEY_REUSED or lines.upload is None:
            raise
        return (yield from _made_before(lines, lines.upload, order, error))


def ready(source: Source, order: Order, name: str | None = None) -> Steps[Ready]:
    """The lines, on the server; an uploaded file is looked into there."""
    known = file_id(source)
    if known is not None:
        first = yield from _first_line(known)
        with lines_of(first, name) as lines:
            return (yield from _ready(lines, known, order))
    with lines_of(source, name) as lines:
        _require_some(lines)
        found = yield from _ready(lines, "", order)
        sent = yield from upload_lines(lines)
    return replace(found, file=sent.id, upload=sent)


def upload(source: Source, name: str | None = None, purpose: str = "batch") -> Steps[File]:
    """A file of the server with these bytes."""
    with lines_of(source, name) as lines:
        return (yield from upload_lines(lines, purpose))


def upload_lines(lines: Lines, purpose: str = "batch") -> Steps[File]:
    """A file of the server with these lines."""
    form = Upload(lines.name, lines.content, purpose)
    request = Request("POST", FILES, upload=form, seconds=UPLOAD_SECONDS)
    return objects.file((yield from ask_json(request)))


def create(lines: Ready, order: Order) -> Steps[Job]:
    """The job over lines that the server has."""
    headers = {"idempotency-key": order.key}
    path = "/v1/batches" if lines.is_openai else JOBS
    body = _body(lines, order)
    made = yield from ask_json(Request("POST", path, body=body, headers=headers))
    if not lines.is_openai:
        return objects.job(made)
    try:
        return (yield from get(made["id"]))
    except Unreachable as error:
        raise Unreachable(f"Job {made['id']} was made. {error}") from None


def _made_before(lines: Ready, upload: File, order: Order, refused: Conflict) -> Steps[Job]:
    """The job that the key stands for, where it was made of the same bytes and asked for the same.
    The server tells: a create that names the very file is the same create, and makes nothing new.
    The upload that came too late is deleted."""
    with suppress(ClientError):  # it is in nobody's way
        yield from delete_file(upload.id)
    for file in (yield from _same_bytes(upload)):
        try:
            return (yield from create(replace(lines, file=file), order))
        except Conflict as error:
            if error.code != KEY_REUSED:
                raise
    raise Conflict(
        "This idempotency_key stands for another job: one of other lines or settings, or of an "
        "upload that was deleted. Nothing was made. Take a new key for a new job; the other one is "
        "among client.jobs().",
        refused.status,
        refused.code,
        refused.param,
    )


def _same_bytes(upload: File) -> Steps[list[str]]:
    """The other files with the same bytes of which a create may have been made whose key is still
    known, the newest first."""
    found: list[str] = []
    after, oldest = "", upload.created_at - KEPT_SECONDS
    while upload.signature is not None:
        files, after = yield from page_of_files(PAGE, after, "batch")
        found += [each.id for each in files if each.signature == upload.signature]
        if not (after and files) or files[-1].created_at < oldest:
            break
    return [each for each in found if each != upload.id]


def _body(lines: Ready, order: Order) -> dict[str, Any]:
    endpoint = order.endpoint or lines.endpoint or CHAT
    if lines.is_openai:
        body: dict[str, Any] = {
            "input_file_id": lines.file,
            "endpoint": endpoint,
            "completion_window": order.window or "24h",
        }
    else:
        body = {"input_files": [lines.file], "endpoint": endpoint, "model": lines.model}
        body |= {"window": order.window} if order.window else {}
    body |= {"metadata": dict(order.metadata)} if order.metadata else {}
    return body | {name: value for name, value in order.extensions.items() if value is not None}


def _ready(lines: Lines, file: str, order: Order) -> Steps[Ready]:
    url = lines.first.get("url")
    endpoint = url if isinstance(url, str) else None
    if lines.is_openai:
        if order.model is not None:
            raise Unreadable(
                f"{lines.name} holds lines of OpenAI's kind, each of which names its own model; "
                f"leave {order.model!r} out."
            )
        return Ready(file, is_openai=True, endpoint=endpoint, model=None)
    model = order.model or (yield from _model(lines, whole=not file))
    return Ready(file, is_openai=False, endpoint=endpoint, model=model)


def _model(lines: Lines, *, whole: bool) -> Steps[str]:
    """The model for lines of Mistral's kind where nobody named one: the one that all of them
    name, else the only one that is served. Never a guess."""
    named = lines.models() if whole else {None}
    if len(named) == 1 and (only := next(iter(named))) is not None:
        return only
    cards = yield from models()
    served = {card.served_as for card in cards}
    if len(served) == 1 and named <= {None}:
        return cards[0].id
    known = ", ".join(card.id for card in cards[:10]) or "none"
    said = "Its lines name several models" if len(named) > 1 else "Nothing names the model"
    raise Unreadable(f"{said} of {lines.name}: say which one (served here: {known}).")


def _require_some(lines: Lines) -> None:
    lines.content.seek(0)
    if not lines.content.read(1):
        raise Unreadable(f"{lines.name} is empty; it should hold one request a line.")


def _first_line(file: str) -> Steps[bytes]:
    """The beginning of an uploaded file, as far as its first line goes."""
    lines = reading.Lines(file)
    line = yield from lines.next()
    yield from lines.close()
    return line or b""
