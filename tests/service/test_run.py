from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runs import ids, objects, run
from tests.serving import Sim, as_openai, chat_lines, simulating

IDS = [f"line-{n}" for n in range(40)]


@pytest.fixture(scope="module")
def sim() -> Iterator[Sim]:
    with simulating() as sim:
        yield sim


@pytest.mark.parametrize("dialect", [bytes, as_openai])
def test_a_file_becomes_results_in_its_order_and_dialect_and_nothing_else_is_left(
    dialect, sim: Sim, tmp_path: Path
) -> None:
    (tmp_path / "in.jsonl").write_bytes(dialect(chat_lines(40)))
    done = run("-i", "in.jsonl", "-o", "out.jsonl", "--engine", sim.url, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == b""
    assert ids(tmp_path / "out.jsonl") == IDS
    assert ("request_id" in objects(tmp_path / "out.jsonl")[0]["response"]) is (
        dialect is as_openai
    )
    assert sorted(each.name for each in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_dashes_are_standard_input_and_output_and_all_else_is_said_on_standard_error(
    sim: Sim, tmp_path: Path
) -> None:
    done = run("-i", "-", "-o", "-", "--engine", sim.url, folder=tmp_path, stdin=chat_lines(40))
    assert done.returncode == 0, done.stderr
    (tmp_path / "out").write_bytes(done.stdout)
    assert ids(tmp_path / "out") == IDS
    assert b"40 of 40 lines answered" in done.stderr
    assert b"cannot go on later" in done.stderr
