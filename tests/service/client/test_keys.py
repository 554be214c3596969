"""`idempotency_key` across processes, against a real server: one job, and one upload."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from batchmill.client import AsyncClient, Client, Conflict
from tests.serving import Serve, as_openai, chat_lines, serving

SUBMIT = """
import sys
from batchmill import Client

with Client(sys.argv[1]) as client:
    print(client.submit(sys.argv[2], model=sys.argv[3] or None, idempotency_key=sys.argv[4]).id)
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    with serving(tmp_path_factory.mktemp("keys") / "data", "--engine", "sim") as serve:
        yield serve


@pytest.fixture
def client(served: Serve) -> Iterator[Client]:
    with Client(f"http://127.0.0.1:{served.port}") as client:
        yield client


def counts(client: Client) -> tuple[int, int]:
    return len(list(client.jobs())), len(list(client.files(purpose="batch")))


@pytest.mark.parametrize("model", ["sim", ""])
def test_two_processes_make_one_job_and_keep_one_upload(
    client: Client, tmp_path: Path, model: str
) -> None:
    lines = chat_lines(3, f"by processes {model}")
    file = tmp_path / "in.jsonl"
    file.write_bytes(lines if model else as_openai(lines))
    jobs, files = counts(client)
    words = [sys.executable, "-c", SUBMIT, client.url, str(file), model, f"processes{model}"]
    made = [subprocess.check_output(words, text=True) for _ in range(2)]
    assert made[0] == made[1]
    assert counts(client) == (jobs + 1, files + 1)


def test_many_at_once_make_one_job_and_keep_one_upload(client: Client) -> None:
    lines = chat_lines(3, "at once")

    def submit(_: int) -> str:
        with Client(client.url) as own:
            return own.submit(lines, model="sim", idempotency_key="at once").id

    jobs, files = counts(client)
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(submit, range(8)))
    assert len(made) == 1
    assert counts(client) == (jobs + 1, files + 1)


async def test_rows_that_are_awaited_find_the_job_too(client: Client) -> None:
    rows = [{"messages": [{"role": "user", "content": "awaited"}]}]
    first = client.submit(rows, model="sim", idempotency_key="awaited")
    before = counts(client)
    async with AsyncClient(client.url) as other:
        again = await other.submit(rows, model="sim", idempotency_key="awaited")
    assert again.id == first.id
    assert counts(client) == before


def test_other_lines_or_a_deleted_upload_are_refused_and_leave_nothing(client: Client) -> None:
    lines = chat_lines(2, "refused")
    job = client.wait(client.submit(lines, model="sim", idempotency_key="refused"))
    before = counts(client)
    for other, priority in ((chat_lines(3, "refused"), 0), (lines, 1)):
        with pytest.raises(Conflict, match="Take a new key"):
            client.submit(other, model="sim", priority=priority, idempotency_key="refused")
    assert counts(client) == before
    client.delete_file(job.input_files[0])
    with pytest.raises(Conflict, match="deleted"):
        client.submit(lines, model="sim", idempotency_key="refused")
    assert counts(client) == (before[0], before[1] - 1)
