"""The job list: its filters, its order and its pages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from mistral_python.harness import World, chat, constant, slow_chat
from operations import operation


@operation
def plain(world: World) -> None:
    job = world.create(chat(1))
    listed = world.client.batch.jobs.list()
    assert constant(listed, "object") == "list", listed
    assert job.id in [job.id for job in listed.data], listed
    assert listed.total >= len(listed.data), listed.total
    assert all(job.outputs is None for job in listed.data if hasattr(job, "outputs"))


@operation
def pages(world: World) -> None:
    word = world.mark()
    made = [_marked(world, word).id for _ in range(3)]
    pages = [
        world.client.batch.jobs.list(metadata={"word": word}, page=n, page_size=2) for n in range(3)
    ]
    assert [page.total for page in pages] == [3, 3, 3], pages
    assert [len(page.data or []) for page in pages] == [2, 1, 0], pages
    assert {job.id for page in pages for job in page.data or []} == set(made)


@operation
def newest_first(world: World) -> None:
    listed = world.client.batch.jobs.list()
    times = [job.created_at for job in listed.data]
    assert times == sorted(times, reverse=True), times


@operation(since="1.12.3")
def order_by(world: World) -> None:
    word = world.mark()
    made = [_marked(world, word).id for _ in range(3)]
    assert _listed(world, metadata={"word": word}, order_by="created") == made
    assert _listed(world, metadata={"word": word}, order_by="-created") == made[::-1]


@operation
def by_metadata(world: World) -> None:
    """The SDK sends every pair as a parameter of its own."""
    word = world.mark()
    metadata = {"word": word, "job type": "a&b=c d+e", "größe": "数据 100%"}
    job = world.create(chat(1), metadata=metadata)
    _marked(world, word)
    assert _listed(world, metadata=metadata) == [job.id]
    assert _listed(world, metadata={"word": word, "job type": "a&b=c d+e"}) == [job.id]
    assert _listed(world, metadata={"word": word, "job type": "other"}) == []
    assert len(_listed(world, metadata={"word": word})) == 2


@operation
def by_status(world: World) -> None:
    done = world.finished
    running = world.create(slow_chat(4))
    assert done.id in _listed(world, status=_status(world, "SUCCESS"))
    assert running.id not in _listed(world, status=_status(world, "SUCCESS"))
    assert done.id not in _listed(world, status=_status(world, "FAILED"))
    world.client.batch.jobs.cancel(job_id=running.id)
    world.ended(running)
    assert running.id in _listed(world, status=_status(world, "CANCELLED"))


@operation(since="1.7.0")
def by_several_statuses(world: World) -> None:
    running = world.create(slow_chat(4))
    assert running.id in _listed(world, status=["QUEUED", "RUNNING"])
    assert world.finished.id not in _listed(world, status=["QUEUED", "RUNNING"])
    assert {running.id, world.finished.id} <= set(
        _listed(world, status=["QUEUED", "RUNNING", "SUCCESS"])
    )
    world.client.batch.jobs.cancel(job_id=running.id)


@operation
def by_model(world: World) -> None:
    job = world.create(chat(1))
    assert job.id in _listed(world, model=world.model)
    assert _listed(world, model="no-such-model") == []


@operation(since="1.9.3")
def by_agent(world: World) -> None:
    assert _listed(world, agent_id="ag_1") == []


@operation
def created_after(world: World) -> None:
    job = world.create(chat(1))
    created = datetime.fromtimestamp(job.created_at, UTC)
    here = timezone(timedelta(hours=2))
    for zone in (UTC, here):
        before, after = (created + timedelta(seconds=s) for s in (-2, 2))
        assert job.id in _listed(world, created_after=before.astimezone(zone)), zone
        assert job.id not in _listed(world, created_after=after.astimezone(zone)), zone


@operation
def created_after_without_zone(world: World) -> None:
    """Such a time goes over the wire without a zone and counts as UTC."""
    job = world.create(chat(1))
    created = datetime.fromtimestamp(job.created_at, UTC).replace(tzinfo=None)
    assert job.id in _listed(world, created_after=created - timedelta(seconds=2))
    assert job.id not in _listed(world, created_after=created + timedelta(seconds=2))


@operation
def created_by_me(world: World) -> None:
    mine = world.create(chat(1))
    theirs = world.colleague.batch.jobs
    assert mine.id in _listed(world, created_by_me=True)
    assert mine.id in [job.id for job in theirs.list().data]
    assert mine.id not in [job.id for job in theirs.list(created_by_me=True).data or []]


def _marked(world: World, word: str) -> Any:
    return world.create(chat(1), metadata={"word": word})


def _listed(world: World, **filters: Any) -> list[str]:
    return [job.id for job in world.client.batch.jobs.list(**filters).data or []]


def _status(world: World, name: str) -> Any:
    """Releases up to 1.6 take one status, later ones only a list."""
    return name if world.release < (1, 7) else [name]
