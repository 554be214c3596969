"""The ways in which people write the server's address."""

from __future__ import annotations

from mistral_python.harness import World
from operations import operation


@operation
def with_slash(world: World) -> None:
    _works(world, f"{world.url}/")


@operation
def with_v1(world: World) -> None:
    _works(world, f"{world.url}/v1")


def _works(world: World, url: str) -> None:
    client = world.client_for(world.key, url)
    assert client.batch.jobs.get(job_id=world.finished.id).status == "SUCCESS"
    assert client.files.retrieve(file_id=world.finished.output_file).deleted is False
    assert client.models.list().data
