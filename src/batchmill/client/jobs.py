"""Operations on jobs, files and models that are a request each, and waiting for a job."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any, Final
from urllib.parse import quote

from batchmill.client import objects
from batchmill.client.asking import accepted, ask_json, ask_to_delete, decoded, listed, pause
from batchmill.client.errors import Conflict, Refused, StillRunning, Unreachable
from batchmill.client.objects import File, Job, Model
from batchmill.client.steps import Clock, Give, Lost, Pause, Reply, Request, Steps

JOBS: Final = "/v1/batch/jobs"
FILES: Final = "/v1/files"
PAGE: Final = 100
FIRST_LOOK: Final = 0.1
LONGEST_LOOK: Final = 2.0


def get(job: str, until: float = inf) -> Steps[Job]:
    """The job as it stands now, if that can be had until then."""
    request = Request("GET", f"{JOBS}/{quoted(job)}")
    return objects.job((yield from ask_json(request, until=until)))


def act(job: str, action: str, body: Mapping[str, Any] | None = None) -> Steps[Job]:
    """Cancel, pause, resume or extend: done twice it is as done once."""
    path = f"{JOBS}/{quoted(job)}/{action}"
    return objects.job((yield from ask_json(Request("POST", path, body=body))))


def delete(job: str) -> Steps[None]:
    """Delete a job; one that is unfinished is cancelled."""
    yield from ask_to_delete(Request("DELETE", f"{JOBS}/{quoted(job)}"))


def retry(
    job: str, only: Sequence[str] | None = None, custom_ids: Sequence[str] | None = None
) -> Steps[Job]:
    """The child job. An answer that was lost is found again: there is one child at a time."""
    before = yield from get(job)
    body: dict[str, Any] = {}
    if custom_ids is not None:
        body["custom_ids"] = list(custom_ids)
    elif only is not None:
        body["only"] = list(only)
    request = Request("POST", f"{JOBS}/{before.id}/retry", body=body or None)
    lost = False
    try:
        for attempt in range(6):
            reply = yield request
            if isinstance(reply, Reply) and reply.status < 500 and reply.status != 429:
                return objects.job(decoded(accepted(reply)))
            lost = True
            yield Pause(pause(attempt, reply))
            child = (yield from get(job)).retried_by
            if child is not None and child != before.retried_by:
                return (yield from get(child))
    except Conflict:
        child = (yield from get(job)).retried_by
        if not lost or child is None or child == before.retried_by:
            raise
        return (yield from get(child))
    raise Unreachable(reply.why if isinstance(reply, Lost) else f"It answers {reply.status}.")


def listing(limit: int | None, status: str | None = None, model: str | None = None) -> Steps[None]:
    """Gives jobs, the newest first, page by page."""
    given, page = 0, 0
    while limit is None or given < limit:
        query = {"page": str(page), "page_size": str(min(PAGE, limit or PAGE))}
        query |= {"status": status} if status else {}
        query |= {"model": model} if model else {}
        data = listed((yield from ask_json(Request("GET", JOBS, query))))
        for each in data if limit is None else data[: limit - given]:
            yield Give(objects.job(each))
        given, page = given + len(data), page + 1
        if len(data) < int(query["page_size"]):
            return


def wait(
    job: str | Job,
    timeout: float | None = None,
    on_progress: Callable[[Job], None] | None = None,
    on_gap: Callable[[str], None] | None = None,
) -> Steps[Job]:
    """The job once it has ended. A server that goes away meanwhile, or is in trouble, is waited
    for, and `on_gap` is told of it. Raises `StillRunning` where the time is over before, or what
    kept it from being seen at all."""
    seen = job if isinstance(job, Job) else None
    name = job.id if isinstance(job, Job) else job
    until, look = inf if timeout is None else (yield Clock()) + timeout, FIRST_LOOK
    while True:
        trouble: Unreachable | Refused | None = None
        try:
            seen = yield from get(name, until)
            if on_progress is not None:
                on_progress(seen)
        except (Unreachable, Refused) as error:
            was_heard = seen is not None or isinstance(error, Refused)
            if not (error.may_pass and was_heard):
                raise
            trouble = error
            if on_gap is not None:
                on_gap(str(error))
        if seen is not None and seen.is_ended:
            return seen
        left = until - (yield Clock())
        if left <= 0 and seen is not None:
            raise StillRunning(seen)
        if left <= 0 and trouble is not None:
            raise trouble
        yield Pause(min(look, left))
        look = min(look * 1.5, LONGEST_LOOK)


def files(limit: int | None, purpose: str | None = None) -> Steps[None]:
    """Gives files, the newest first, page by page."""
    given, after = 0, ""
    while limit is None or given < limit:
        size = PAGE if limit is None else min(PAGE, limit - given)
        found, after = yield from page_of_files(size, after, purpose)
        for each in found:
            yield Give(each)
        given += len(found)
        if not after:
            return


def page_of_files(
    size: int, after: str = "", purpose: str | None = None
) -> Steps[tuple[list[File], str]]:
    """So many files behind that one, the newest first; and the last one's id, where more come."""
    query = {"limit": str(size)}
    query |= {"after": after} if after else {}
    query |= {"purpose": purpose} if purpose else {}
    page = yield from ask_json(Request("GET", FILES, query))
    found = [objects.file(each) for each in listed(page)]
    return found, str(page.get("last_id") or "") if page.get("has_more") else ""


def file(id: str) -> Steps[File]:
    """A file's facts."""
    return objects.file((yield from ask_json(Request("GET", f"{FILES}/{quoted(id)}"))))


def delete_file(id: str) -> Steps[None]:
    """Delete a file that no unfinished job needs."""
    yield from ask_to_delete(Request("DELETE", f"{FILES}/{quoted(id)}"))


def models() -> Steps[list[Model]]:
    """Every name that can be asked for."""
    answer = yield from ask_json(Request("GET", "/v1/models"))
    return [objects.model(each) for each in listed(answer)]


def quoted(id: str) -> str:
    """An id as a piece of a path, whatever somebody typed."""
    return quote(id, safe="") or "%20"
