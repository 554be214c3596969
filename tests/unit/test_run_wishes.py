"""What a run refuses before it begins, and when it goes on."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec
import pytest

from batchmill.app.run.sources import Origin, check_readable
from batchmill.app.run.targets import check_writable, target_of
from batchmill.app.run.wanted import Wanted
from batchmill.config import load
from batchmill.errors import UserError


def test_an_endpoint_that_is_none_is_refused_at_once() -> None:
    Wanted("in", "out", load({}), endpoint="/v1/embeddings")
    with pytest.raises(UserError, match=r"'/v1/nope' is none; there are /v1/chat/completions"):
        Wanted("in", "out", load({}), endpoint="/v1/nope")


def test_a_url_with_another_query_is_another_input_and_its_secret_is_not_kept() -> None:
    url = "http://user:pw@host/in.jsonl?version=1&token=secret"
    kept = msgspec.json.encode(Origin.of(url, "content", 0, 0))
    assert b"secret" not in kept
    assert b"pw" not in kept
    origin = msgspec.json.decode(kept, type=Origin)
    origin.refuse_change(url, Path("state"))
    with pytest.raises(UserError, match="another query or password") as refused:
        origin.refuse_change(url.replace("version=1", "version=2"), Path("state"))
    assert "secret" not in str(refused.value)


async def test_a_named_pipe_without_a_reader_is_waited_for_and_stops_nothing_else(
    tmp_path: Path,
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    given_up = asyncio.create_task(target_of(str(pipe)))
    opening = asyncio.create_task(target_of(str(pipe)))
    await asyncio.sleep(0)
    assert given_up.cancel()
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        target = await asyncio.wait_for(opening, 30)
        target.write(b"result")
        target.finish()
        assert os.read(reader, 100) == b"result"
        assert given_up.cancelled()
    finally:
        os.close(reader)


@pytest.mark.parametrize("url", ["http://[::1", "http://host:secret/in"])
def test_a_url_that_is_none_is_refused_before_anything_is_done(url: str) -> None:
    for check in (check_readable, check_writable):
        with pytest.raises(UserError, match="cannot be used") as refused:
            check(url)
        assert "secret" not in str(refused.value)
