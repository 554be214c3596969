"""The list of batches and its pages."""

from __future__ import annotations

from openai_python.harness import World
from operations import operation

CROWD = 250


@operation
def all_batches(world: World) -> None:
    """The SDK follows the pages by itself, and ends; releases that ignore `has_more` too."""
    ids = [batch.id for batch in world.crowded.batches.list()]
    assert len(ids) == len(set(ids)) == CROWD, len(ids)


@operation
def pages_of_a_hundred(world: World) -> None:
    pages = [world.crowded.batches.list(limit=100)]
    while pages[-1].has_next_page():
        pages.append(pages[-1].get_next_page())
        assert len(pages) < 10
    assert [len(page.data) for page in pages if page.data] == [100, 100, 50], pages
    times = [batch.created_at for page in pages for batch in page.data]
    assert times == sorted(times, reverse=True)


@operation
def pages_of_one(world: World) -> None:
    newest = [batch.id for batch in world.crowded.batches.list(limit=100).data][:3]
    after, found = None, []
    for _ in range(3):
        given = {} if after is None else {"after": after}
        [batch] = world.crowded.batches.list(limit=1, **given).data
        after = batch.id
        found.append(batch.id)
    assert found == newest, (found, newest)


@operation
def after_the_last(world: World) -> None:
    last = [batch.id for batch in world.crowded.batches.list(limit=100)][-1]
    for after in (last, "batch_unknown", f"batch_{'0' * 32}"):
        assert list(world.crowded.batches.list(after=after)) == [], after


@operation
def of_one_tenant(world: World) -> None:
    mine = world.finished.id
    assert mine in [batch.id for batch in world.client.batches.list()]
    assert mine not in [batch.id for batch in world.stranger.batches.list()]
